"""A PostgreSQL primary and its streaming replicas, and a PgBouncer, all on loopback and of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.postgres import PostgresServer, debian_binaries, free_port, wheel_binaries

__all__ = ["PgBouncer", "Primary", "Standby"]

PATIENCE = 20.0


class Primary(PostgresServer):
    """A server that others replicate from."""

    def __init__(self) -> None:
        binaries = wheel_binaries() or debian_binaries()
        if binaries is None:
            pytest.skip("NO POSTGRESQL BINARIES (see CONTRIBUTING.md, Databases)")
        super().__init__(binaries)

    def run(self, *commands: str) -> Any:
        """Run SQL of the tests' own; returns the first value of the last answer."""
        value: Any = None
        with psycopg.connect(self.url, autocommit=True) as connection:
            for command in commands:
                cursor = connection.execute(command)  # type: ignore[call-overload]
                row = cursor.fetchone() if cursor.description else None
                value = None if row is None else row[0]
        return value

    def position(self) -> str:
        """How far its log has come."""
        return str(self.run("SELECT pg_current_wal_lsn()"))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process of the server stopped by SIGSTOP: connections are accepted by the kernel, nobody answers."""
        stopped = [self.pid]
        try:
            os.kill(self.pid, signal.SIGSTOP)  # first, so that it starts no other
            stopped += map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())
            for pid in stopped[1:]:
                with suppress(ProcessLookupError):  # the backend of a connection that was just closed
                    os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


class Standby(Primary):
    """A streaming replica."""

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        super().__init__()

    def _fill(self, data: Path) -> None:
        port = str(self._primary.port)
        options = ("-R", "-X", "stream", "--checkpoint=fast", "--no-sync")
        self._run("pg_basebackup", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-D", str(data), *options)

    def pause(self) -> None:
        """Stop replaying: what is written from now on is not seen here."""
        self.run("SELECT pg_wal_replay_pause()")
        self._wait_for("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    def resume(self) -> None:
        """Replay again, and wait until it is level with the primary."""
        self.run("SELECT pg_wal_replay_resume()")
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until it has all that the primary has at this moment."""
        self._wait_for(f"SELECT pg_last_wal_replay_lsn() >= '{self._primary.position()}'")

    def promote(self) -> None:
        """Make it a primary."""
        self.run("SELECT pg_promote()")

    def _wait_for(self, question: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while not self.run(question):
            if time.monotonic() > give_up:
                raise TimeoutError(question)
            time.sleep(0.01)


class PgBouncer:
    """A pooler in transaction mode before a server; ``settings`` are further lines of its file."""

    def __init__(self, server: PostgresServer, *, pool_size: int, settings: str = "") -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("NO PGBOUNCER: apt-get install pgbouncer (make servers)")
        self.folder = Path(tempfile.mkdtemp(prefix="fsa-pgbouncer-", dir="/tmp"))
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        user = "nobody" if os.geteuid() == 0 else None
        (self.folder / "users.txt").write_text('"postgres" ""\n')
        (self.folder / "pgbouncer.ini").write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={server.port} user=postgres\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {self.folder / 'users.txt'}\n"
            f"pool_mode = transaction\ndefault_pool_size = {pool_size}\nmax_client_conn = 500\n"
            f"{settings}"
        )
        if user is not None:
            entry = pwd.getpwnam(user)
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        with (self.folder / "pgbouncer.log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-q", str(self.folder / "pgbouncer.ini")], stdout=log, stderr=log, user=user, cwd=self.folder
            )
        self._wait()

    def _wait(self) -> None:
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up and self._process.poll() is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            time.sleep(0.01)
        raise RuntimeError(f"PgBouncer did not start:\n{(self.folder / 'pgbouncer.log').read_text()[-2000:]}")

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
