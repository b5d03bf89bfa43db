"""A replica is promoted: the pool finds the new primary, and what was acknowledged is there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.engines.primary import refuses_writes
from tests.support.client import TestClient
from tests.support.doors import make_database

from .replication import Primary, Standby

pytestmark = pytest.mark.xdist_group("replication")

DRIVERS = ("sync", "psycopg", "asyncpg")


@dataclass
class Writer:
    """Writes one row after the other through one database object, and keeps account of each."""

    name: str
    db: SQLAlchemy
    Item: Any
    acknowledged: set[str] = field(default_factory=set[str])
    errors: list[tuple[float, BaseException]] = field(default_factory=list[tuple[float, BaseException]])
    stopped: bool = False
    last: float = 0.0

    def run(self) -> None:
        if self.name.endswith("sync"):
            while not self.stopped:
                self._note(self._write)
        else:
            asyncio.run(self._run_async())

    async def _run_async(self) -> None:
        while not self.stopped:
            begun, name = time.monotonic(), self._next()
            try:
                async with self.db.transaction() as session:
                    session.add(self.Item(name=name))
            except Exception as error:
                self.errors.append((begun, error))
                await asyncio.sleep(0.01)
            else:
                self._acknowledge(name, begun)
        await self.db.adispose()

    def _write(self, name: str) -> None:
        with self.db.transaction() as session:
            session.add(self.Item(name=name))

    def _note(self, write: Callable[[str], None]) -> None:
        begun, name = time.monotonic(), self._next()
        try:
            write(name)
        except Exception as error:
            self.errors.append((begun, error))
            time.sleep(0.01)
        else:
            self._acknowledge(name, begun)

    def _next(self) -> str:
        return f"{self.name} {len(self.acknowledged)} {len(self.errors)}"

    def _acknowledge(self, name: str, begun: float) -> None:
        self.acknowledged.add(name)
        self.last = begun


@contextmanager
def pair() -> Iterator[tuple[Primary, Standby]]:
    """A primary that acknowledges a commit when its replica has it, and that replica."""
    primary = Primary()
    try:
        standby = Standby(primary)
        try:
            primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
            yield primary, standby
        finally:
            standby.remove()
    finally:
        primary.remove()


def databases(primary: Primary, standby: Standby) -> list[Writer]:
    """By replicas and by a URL with several hosts, with every driver."""
    hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
    found: list[Writer] = []
    for driver in DRIVERS:
        scheme = "postgresql" if driver == "sync" else f"postgresql+{driver}"
        options: dict[str, Any] = {"statement_timeout": 2, "connect_timeout": 10}
        one = make_database(primary.url.replace("postgresql", scheme, 1), replicas=[standby.url], **options)
        two = make_database(f"{scheme}://postgres@/postgres?{hosts}", **options)
        found += [Writer(f"replicas {driver}", *one), Writer(f"hosts {driver}", *two)]
    return found


def until(check: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not check():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def fail_over(how: str) -> tuple[dict[str, int], int]:
    """By writer: what was lost or refused too late; and how many writes were refused in all."""
    with pair() as (primary, standby):
        writers = databases(primary, standby)
        writers[0].db.create_all()
        threads = [threading.Thread(target=writer.run) for writer in writers]
        for thread in threads:
            thread.start()
        try:
            until(lambda: all(len(writer.acknowledged) >= 20 for writer in writers))
            if how == "killed":
                primary.stop(immediately=True)
            else:
                primary.run("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
            standby.promote()
            promoted = time.monotonic()
            until(lambda: all(writer.last > promoted + 1 for writer in writers))
        finally:
            for writer in writers:
                writer.stopped = True
            for thread in threads:
                thread.join()
        kept = set(_names(standby))
        failures = dict[str, int]()
        for writer in writers:
            late = [error for begun, error in writer.errors if begun > promoted + 1 and refuses_writes(error)]
            failures[writer.name] = len(late) + len(writer.acknowledged - kept)
            writer.db.dispose()
        return failures, sum(refuses_writes(error) for writer in writers for _, error in writer.errors)


@pytest.mark.parametrize("how", ["read-only", "killed"])
def test_r22_after_a_failover_the_pool_finds_the_new_primary(
    how: str, size: Callable[[int, int], int], figure: Any
) -> None:
    n, failures, refused = size(1, 20), Counter[str](), 0
    for _ in range(n):
        found, more = fail_over(how)
        failures.update(found)
        refused += more
    for name, count in failures.items():
        figure("R22", variant=f"{how}, {name}", n=n, failures=count, refused_until_then=refused)
    assert set(failures.values()) == {0}
    assert refused > 0 or how == "killed"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"), True),
        (asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"), True),
        (pymysql.err.OperationalError(1290, "The MariaDB server is running with the --read-only option"), True),
        (pymysql.err.OperationalError(1290, "The MySQL server is running with the --super-read-only option"), True),
        (pymysql.err.OperationalError(1836, "Running in read-only mode"), True),
        (pymysql.err.OperationalError(1290, "The MySQL server is running with the --secure-file-priv option"), False),
        (pymysql.err.OperationalError(1213, "Deadlock found"), False),
        (psycopg.errors.UniqueViolation("duplicate key"), False),
    ],
)
def test_a_write_refused_by_a_server_that_takes_none_is_told_from_other_errors(
    error: Exception, expected: bool
) -> None:
    assert refuses_writes(error) is expected
    assert refuses_writes(sa.exc.DBAPIError("INSERT", {}, error)) is expected


def test_a_transaction_that_was_made_read_only_does_not_cost_the_pool_its_connections(postgres_url: str) -> None:
    db = SQLAlchemy(postgres_url)
    with db.engine.connect() as connection:
        first = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    options = {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
    refused = pytest.raises(sa.exc.InternalError, match="read-only")
    with db.engine.connect().execution_options(**options) as connection, refused:
        connection.execute(sa.text("CREATE TABLE no (id int)"))
    with db.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT pg_backend_pid()")) == first


@pytest.mark.parametrize("driver", DRIVERS)
def test_while_no_server_takes_writes_the_answer_is_a_503(driver: str, standby: Standby) -> None:
    """Before the promotion: both hosts are there, and neither is a primary."""
    scheme = "postgresql" if driver == "sync" else f"postgresql+{driver}"
    host = f"host=127.0.0.1:{standby.port}"
    db = SQLAlchemy(f"{scheme}://postgres@/postgres?{host}&{host}")
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/sync")
    def by_thread() -> int:
        return int(db.session.scalar(sa.text("SELECT 1")) or 0)

    @app.get("/async")
    async def by_loop() -> int:
        return int(await db.async_session.scalar(sa.text("SELECT 1")) or 0)

    with TestClient(app) as client:
        answer = client.get("/sync" if driver == "sync" else "/async")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def _names(server: Primary) -> list[str]:
    engine = sa.create_engine(server.url.replace("postgresql", "postgresql+psycopg", 1), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.execute(sa.text("SELECT name FROM item")).scalars())
