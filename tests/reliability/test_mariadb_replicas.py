"""MariaDB: what was written is read from a replica that has it by GTID, and a promoted replica is found."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.engines.primary import refuses_writes
from tests.support.doors import make_database

from .conftest import eventually
from .mariadb import MariaDBPair

pytestmark = [pytest.mark.xdist_group("replication"), pytest.mark.usefixtures("patient")]

PORT = sa.select(sa.literal_column("@@port"))


@pytest.fixture(scope="module")
def servers() -> Iterator[MariaDBPair]:
    servers = MariaDBPair()
    yield servers
    servers.remove()


@pytest.fixture(params=["sync", "async"])
def bench(request: pytest.FixtureRequest, servers: MariaDBPair) -> Iterator[tuple[SQLAlchemy, Any, bool]]:
    db, Item = make_database(servers.primary.url, replicas=[servers.replica.url])
    db.drop_all(confirmed=True)
    db.create_all()
    servers.catch_up()
    yield db, Item, request.param == "async"
    db.dispose()


async def read(db: SQLAlchemy, statement: Any, *, asynchronous: bool) -> list[Any]:
    if asynchronous:
        async with db.read_only():
            return list(await db.async_session.scalars(statement))

    def in_thread() -> list[Any]:
        with db.read_only():
            return list(db.session.scalars(statement))

    return await asyncio.to_thread(in_thread)


async def write(db: SQLAlchemy, Item: Any, name: str, *, asynchronous: bool) -> None:
    if asynchronous:
        async with db.transaction() as session:
            session.add(Item(name=name))
        return

    def in_thread() -> None:
        with db.transaction() as session:
            session.add(Item(name=name))

    await asyncio.to_thread(in_thread)


def test_r23_what_was_written_is_read_whether_the_replica_has_it_or_not(
    servers: MariaDBPair, bench: tuple[SQLAlchemy, Any, bool], size: Callable[[int, int], int], figure: Any
) -> None:
    db, Item, asynchronous = bench
    n, misses = size(20, 400), 0
    names = sa.select(Item.name)

    async def main() -> list[int]:
        nonlocal misses
        ports = await read(db, PORT, asynchronous=asynchronous)
        await asyncio.to_thread(servers.replica.run, "STOP SLAVE SQL_THREAD")
        for number in range(n):
            await write(db, Item, f"{number}", asynchronous=asynchronous)
            misses += f"{number}" not in await read(db, names, asynchronous=asynchronous)
        ports += await read(db, PORT, asynchronous=asynchronous)
        await asyncio.to_thread(servers.replica.run, "START SLAVE SQL_THREAD")
        await asyncio.to_thread(servers.catch_up)
        ports += await read(db, PORT, asynchronous=asynchronous)
        await db.adispose()
        return ports

    ports = asyncio.run(main())
    figure("R23", variant=f"mariadb {'async' if asynchronous else 'sync'} paused", n=n, failures=misses)
    assert misses == 0
    assert ports == [servers.replica.port, servers.primary.port, servers.replica.port]


def test_r22_a_promoted_replica_is_found(servers: MariaDBPair, size: Callable[[int, int], int], figure: Any) -> None:
    db, Item = make_database(servers.primary.url, replicas=[servers.replica.url])
    db.drop_all(confirmed=True)
    db.create_all()
    servers.catch_up()
    refused = list[BaseException]()
    names: list[str] = []

    def writes(name: str, *, asynchronous: bool) -> bool:
        async def main() -> None:
            try:
                await write(db, Item, name, asynchronous=asynchronous)
            finally:
                await db.adispose()

        try:
            asyncio.run(main())
        except sa.exc.DBAPIError as error:
            refused.append(error)
            return False
        return True

    n = size(1, 20)
    for turn in range(n):
        with db():
            assert db.session.scalar(PORT) == servers.primary.port
        servers.promote()
        for asynchronous in (False, True):
            names.append(f"{turn} {asynchronous}")
            assert eventually(functools.partial(writes, names[-1], asynchronous=asynchronous))
        with db():
            assert db.session.scalar(PORT) == servers.primary.port
        servers.follow()
    kept = servers.primary.run("SELECT count(DISTINCT name) FROM test.item")
    figure("R22", variant="mariadb", n=n, failures=len(names) - kept, refused_until_then=len(refused))
    assert kept == len(names)
    assert all(refuses_writes(error) for error in refused)
    db.dispose()
