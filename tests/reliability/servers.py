"""Application servers of the tests: real uvicorn processes that can be asked, stopped and killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "AppServer", "Nursery", "environment", "free_port"]

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """The environment of a Python that finds the package and the tests."""
    paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Nursery:
    """The process that servers are forked from; see ``nursery.py``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.nursery"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def start(
        self, app: str, *, port: int | None = None, env: dict[str, str] | None = None, **options: Any
    ) -> AppServer:
        """Fork a server and wait until it answers."""
        self._count += 1
        log = self._directory / f"server-{self._count}.log"
        port = port or free_port()
        order = {"app": f"tests.reliability.apps.{app}:app", "port": port, "log": str(log), "env": env or {}}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**order, "options": options}) + "\n")
        self._process.stdin.flush()
        server = AppServer(int(self._read()), port, log)
        server.wait_until_ready()
        return server

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


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
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

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
