"""A Galera cluster of three MariaDB servers on loopback, of the tests' own."""

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

__all__ = ["Galera", "Node"]

PATIENCE = 60.0
_LIBRARIES = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")


class Node:
    """One server of the cluster."""

    def __init__(self, folder: Path, library: str, user: str | None) -> None:
        self.folder = folder
        self.port, self.group_port, self.transfer_port, self.sst_port = (free_port() for _ in range(4))
        self.url = f"mysql://root@127.0.0.1:{self.port}/test"
        self._library = library
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, others: list[Node]) -> None:
        """Join the others, or found the cluster."""
        members = ",".join(f"127.0.0.1:{node.group_port}" for node in others)
        provider = f"gmcast.listen_addr=tcp://127.0.0.1:{self.group_port};ist.recv_addr=127.0.0.1:{self.transfer_port}"
        arguments = [
            *("mariadbd", "--no-defaults", f"--datadir={self.folder / 'data'}", f"--port={self.port}"),
            *("--bind-address=127.0.0.1", f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}"),
            *("--wsrep-on=ON", f"--wsrep-provider={self._library}", "--binlog-format=ROW"),
            *("--innodb-autoinc-lock-mode=2", "--wsrep-sst-method=rsync", f"--wsrep-cluster-address=gcomm://{members}"),
            *("--wsrep-node-address=127.0.0.1", f"--wsrep-sst-receive-address=127.0.0.1:{self.sst_port}"),
            *(f"--wsrep-provider-options={provider}", "--innodb-buffer-pool-size=32M", "--skip-log-bin"),
            *("--innodb-flush-log-at-trx-commit=0", *([f"--user={self._user}"] if self._user else [])),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments, stdout=log, stderr=log, cwd=self.folder, env={**os.environ, "PATH": _path()}
            )
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up and self._process.poll() is None:
            with suppress(pymysql.err.MySQLError):
                if self.run("SHOW STATUS LIKE 'wsrep_ready'")[1] == "ON":
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the node did not start:\n{(self.folder / 'log').read_text()[-3000:]}")

    def run(self, *commands: str) -> Any:
        """Run SQL of the tests' own; returns the first row of the last answer."""
        connection = pymysql.connect(host="127.0.0.1", port=self.port, user="root", autocommit=True)
        try:
            with connection.cursor() as cursor:
                for command in commands:
                    cursor.execute(command)
                return cursor.fetchone()
        finally:
            connection.close()

    def kill(self) -> None:
        """End its process."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Galera:
    """Three nodes, ready."""

    def __init__(self) -> None:
        library = next((path for path in _LIBRARIES if os.path.exists(path)), None)
        if library is None or shutil.which("mariadbd", path=_path()) is None or shutil.which("rsync") is None:
            pytest.skip("NO GALERA: apt-get install galera-4 mariadb-server rsync (make servers)")
        self.folder = Path(tempfile.mkdtemp(prefix="fsa-galera-", dir="/tmp"))
        self.folder.chmod(0o755)
        user = "mysql" if os.geteuid() == 0 else None
        self.nodes = [self._node(number, library, user) for number in range(3)]
        try:
            for number, node in enumerate(self.nodes):
                node.start(self.nodes[:number])
            self.nodes[0].run("CREATE DATABASE IF NOT EXISTS test")
        except BaseException:
            self.remove()
            raise

    def _node(self, number: int, library: str, user: str | None) -> Node:
        folder = self.folder / str(number)
        data = folder / "data"
        data.mkdir(parents=True)
        install = [
            *("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db"),
            *("--auth-root-authentication-method=normal", *([f"--user={user}"] if user else [])),
        ]
        if user is not None:
            entry = pwd.getpwnam(user)
            for path in (folder, data):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        subprocess.run(install, check=True, capture_output=True, env={**os.environ, "PATH": _path()})
        return Node(folder, library, user)

    def remove(self) -> None:
        """Stop the nodes and delete their folders."""
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
