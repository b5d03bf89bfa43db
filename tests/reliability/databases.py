"""Databases of the run's own with a way to look into them that goes around the package, and a server to mistreat."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tests.support.databases import PLAIN, note_part, server_url, temporary_database
from tests.support.postgres import PostgresServer, debian_binaries, wheel_binaries

__all__ = ["KINDS", "Database", "OwnPostgres", "new_database"]

KINDS = ("sqlite", "postgresql", "mariadb")
_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}


@dataclass
class Database:
    """A database, and an engine of SQLAlchemy's own to inspect it with."""

    kind: str
    url: str
    engine: sa.Engine = field(init=False)

    def __post_init__(self) -> None:
        url = sa.make_url(self.url).set(drivername=_DRIVERS[self.kind])
        self.engine = sa.create_engine(
            url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool, connect_args=PLAIN.get(self.kind, {})
        )

    def with_driver(self, drivername: str) -> str:
        return sa.make_url(self.url).set(drivername=drivername).render_as_string(hide_password=False)

    def scalars(self, query: str) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(query)).scalars())

    def scalar(self, query: str) -> int:
        return self.scalars(query)[0]

    def names(self) -> list[str]:
        """The names of the items that are stored."""
        with self.engine.connect() as connection:
            return list(connection.exec_driver_sql("SELECT name FROM item").scalars())

    def run(self, *commands: str) -> None:
        with self.engine.connect() as connection:
            for command in commands:
                connection.execute(sa.text(command))

    def open_transactions(self) -> int:
        """How many sessions sit in a transaction that they do not end (for SQLite: whether its write lock is held).

        A connection that was closed a moment ago may still be there for the server: it has a second to notice.
        """
        give_up = time.monotonic() + 1
        while (found := self._open_transactions()) and time.monotonic() < give_up:
            time.sleep(0.02)
        return found

    def _open_transactions(self) -> int:
        if self.kind == "postgresql":
            return self.scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND state LIKE 'idle in transaction%'"
            )
        if self.kind == "mariadb":
            return self.scalar(
                "SELECT count(*) FROM information_schema.innodb_trx AS trx JOIN information_schema.processlist AS list "
                "ON list.id = trx.trx_mysql_thread_id WHERE list.db = DATABASE() AND list.command = 'Sleep'"
            )
        try:
            self.run("BEGIN IMMEDIATE", "ROLLBACK")
        except sa.exc.OperationalError:
            return 1
        return 0


@contextmanager
def new_database(kind: str, directory: Path) -> Iterator[Database]:
    """A new, empty database that is dropped at the end."""
    if kind == "sqlite":
        note_part("sqlite", f"SQLite {sqlite3.sqlite_version}")
        database = Database(kind, f"sqlite:///{directory / uuid.uuid4().hex}.db")
        yield database
        database.engine.dispose()
        return
    if server_url(kind) is None:
        pytest.skip(f"NO {kind.upper()} SERVER TAKES PART (see CONTRIBUTING.md, Databases)")
    with temporary_database(kind) as url:
        yield Database(kind, url)


class OwnPostgres(PostgresServer):
    """A PostgreSQL on loopback that belongs to the test: it may be stopped, killed and frozen."""

    def __init__(self) -> None:
        binaries = wheel_binaries() or debian_binaries()
        if binaries is None:
            pytest.skip("NO POSTGRESQL BINARIES (see CONTRIBUTING.md, Databases)")
        super().__init__(binaries)

    def backends(self) -> list[int]:
        """The processes that serve clients, other than this question's."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            return [row[0] for row in rows]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every client's backend stopped by SIGSTOP, thawed at the end."""
        stopped = self.backends()
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
