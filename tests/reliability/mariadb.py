"""A MariaDB primary and its replica by GTID, on loopback and of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.support.postgres import free_port

__all__ = ["MariaDBPair", "OwnMariaDB"]

PATIENCE = 30.0


class OwnMariaDB:
    """One server that writes a binary log."""

    def __init__(self, folder: Path, number: int, user: str | None) -> None:
        self.port = free_port()
        self.url = f"mysql://app@127.0.0.1:{self.port}/test"
        arguments = [
            *("mariadbd", "--no-defaults", f"--datadir={folder / 'data'}", f"--port={self.port}"),
            *("--bind-address=127.0.0.1", f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}"),
            *("--log-bin", "--log-slave-updates", f"--server-id={number}", "--innodb-buffer-pool-size=16M"),
            *("--innodb-flush-log-at-trx-commit=0", *([f"--user={user}"] if user else [])),
        ]
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder, env=_environment())
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up and self._process.poll() is None:
            with suppress(pymysql.err.MySQLError):
                self.run("SELECT 1")
                return
            time.sleep(0.05)
        raise RuntimeError(f"MariaDB did not start:\n{(folder / 'log').read_text()[-3000:]}")

    def run(self, *commands: str) -> Any:
        """Run SQL of the tests' own; returns the first value of the last answer."""
        connection = pymysql.connect(host="127.0.0.1", port=self.port, user="root", autocommit=True)
        try:
            with connection.cursor() as cursor:
                for command in commands:
                    cursor.execute(command)
                row = cursor.fetchone()
                return None if row is None else row[0]
        finally:
            connection.close()

    def kill(self) -> None:
        """End its process."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class MariaDBPair:
    """A primary, its replica, and a user ``app`` who may not write where ``read_only`` is on."""

    def __init__(self) -> None:
        if shutil.which("mariadbd", path=_environment()["PATH"]) is None:
            pytest.skip("NO MARIADB BINARIES (see CONTRIBUTING.md, Databases)")
        self.folder = Path(tempfile.mkdtemp(prefix="fsa-mariadb-", dir="/tmp"))
        self.folder.chmod(0o755)
        user = "mysql" if os.geteuid() == 0 else None
        self._servers: list[OwnMariaDB] = []
        try:
            self.primary = self._server(1, user)
            self.primary.run("CREATE DATABASE test", "CREATE USER app", "GRANT ALL ON test.* TO app")
            self.replica = self._server(2, user)
            self._follow("slave_pos")
        except BaseException:
            self.remove()
            raise

    def promote(self) -> None:
        """Have the replica take the writes; the former primary refuses them, and follows nobody yet."""
        self.primary.run("SET GLOBAL read_only = ON")
        self.catch_up()
        self.replica.run("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF")
        self.primary, self.replica = self.replica, self.primary

    def follow(self) -> None:
        """Have the former primary follow the new one."""
        self._follow("current_pos")

    def _follow(self, position: str) -> None:
        source = f"MASTER_HOST='127.0.0.1', MASTER_PORT={self.primary.port}, MASTER_USER='root'"
        self.replica.run(
            "SET GLOBAL read_only = ON", f"CHANGE MASTER TO {source}, MASTER_USE_GTID={position}", "START SLAVE"
        )
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until the replica has all that the primary has at this moment."""
        position = self.primary.run("SELECT @@gtid_current_pos")
        assert self.replica.run(f"SELECT MASTER_GTID_WAIT('{position}', {PATIENCE})") == 0

    def remove(self) -> None:
        """Stop both and delete their folders."""
        for server in self._servers:
            server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _server(self, number: int, user: str | None) -> OwnMariaDB:
        folder = self.folder / str(number)
        data = folder / "data"
        folder.mkdir()
        empty = self.folder / "empty"
        if not empty.exists():
            empty.mkdir()
            options = ["--skip-test-db", "--auth-root-authentication-method=normal"]
            subprocess.run(
                ["mariadb-install-db", "--no-defaults", f"--datadir={empty}", *options],
                check=True,
                capture_output=True,
                env=_environment(),
            )
        shutil.copytree(empty, data)
        if user is not None:
            entry = pwd.getpwnam(user)
            for path in (folder, *folder.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        server = OwnMariaDB(folder, number, user)
        self._servers.append(server)
        return server


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
