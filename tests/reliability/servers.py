"""Application servers of the tests: real uvicorn processes that can be asked, stopped and killed."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from tests.support.nursery import ROOT, fork_server, lives

__all__ = ["AppServer", "Nursery", "free_port"]

PATIENCE = 20.0


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nursery:
    """Where the servers of the tests come from: each has a log of its own in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    def start(self, app: str, *, port: int | None = None, env: dict[str, str] | None = None) -> AppServer:
        """Fork a server and wait until it answers."""
        self._count += 1
        log = self._directory / f"server-{self._count}.log"
        port = port or free_port()
        arguments = [f"tests.reliability.apps.{app}:app", "--host", "127.0.0.1", "--port", str(port)]
        arguments += ["--log-level", "warning", "--no-access-log", "--backlog", "4096"]
        server = AppServer(fork_server(arguments, folder=ROOT, log=log, variables=env), port, log)
        server.wait_until_ready()
        return server


class AppServer:
    """One uvicorn process."""

    def __init__(self, pid: int, port: int, log: Path) -> None:
        self.pid = pid
        self.port = port
        self._log = log

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    @property
    def alive(self) -> bool:
        return lives(self.pid)

    def wait_until_ready(self) -> None:
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if not self.alive:
                    break
                time.sleep(0.01)
        raise RuntimeError(f"the server did not start:\n{self.log}")

    def kill(self) -> None:
        """kill -9."""
        self._signal(signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        """SIGTERM; it may finish its requests."""
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        self.terminate()
        try:
            self.wait(5)
        except TimeoutError:
            self.kill()

    def wait(self, seconds: float = PATIENCE) -> float:
        """Wait for its end; returns how long that took."""
        begun = time.monotonic()
        while self.alive:
            if time.monotonic() - begun > seconds:
                raise TimeoutError(f"process {self.pid} did not end")
            time.sleep(0.005)
        return time.monotonic() - begun

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
