"""R15: a client that goes away during a slow query of a safe method takes the query with it, in the server too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import checked_out, eventually
from .databases import Database
from .servers import AppServer, Nursery
from .wire import Connection, fetch, percentile

BOUND = 1.0
"""Seconds; the small form, which runs beside other tests, only tells that nobody waited for the query to end."""

SLOW = 20_000
"""Milliseconds that the query would take."""

RUNNING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND state = 'active' AND query LIKE 'SELECT pg_sleep(%'",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() "
    "AND info LIKE 'SELECT BENCHMARK(%'",
}


@pytest.fixture(params=["", "asyncpg"])
def driver(request: pytest.FixtureRequest, database: Database) -> str:
    """Another driver than the database's usual one."""
    if request.param and database.kind != "postgresql":
        pytest.skip("a driver of PostgreSQL")
    return str(request.param)


@pytest.fixture
def shop(driver: str, database: Database, nursery: Nursery) -> Iterator[AppServer]:
    url = database.with_driver(f"postgresql+{driver}") if driver else database.url
    server = nursery.start("computing", env={"RELIABILITY_URL": url})
    yield server
    server.stop()


def running(database: Database, server: AppServer) -> int:
    """How many slow queries run; in SQLite, where nobody can look, how many connections are out."""
    query = RUNNING.get(database.kind)
    return checked_out(server) if query is None else database.scalar(query)


def test_r15_a_query_ends_with_its_client(
    shop: AppServer, database: Database, driver: str, size: Callable[[int, int], int], figure: Any
) -> None:
    n, bound, gone, others = size(20, 500), float(size(8, 1)) * BOUND, list[float](), list[int]()

    async def leave(mode: str, number: int) -> None:
        async with Connection(shop.port) as connection:
            path = "stream-slow" if number % 5 == 4 and mode == "sync" else f"{mode}/pause/{SLOW}"
            await connection.send("GET", f"/middleware/{path}")
            while await asyncio.to_thread(running, database, shop) == 0:
                await asyncio.sleep(0.01)
            connection.reset()

    async def ask() -> None:
        for path in ("session", "session-async"):
            others.append((await fetch(shop.port, "GET", f"/middleware/{path}")).status)

    for number in range(0, n, 4):
        for mode in ("sync", "async"):
            leaving = [leave(mode, number + each) for each in range(2)]
            asyncio.run(_all(*leaving))
            begun = time.monotonic()
            eventually(lambda: running(database, shop) == 0)
            gone.append(time.monotonic() - begun)
            asyncio.run(ask())
    everything_returned = eventually(lambda: checked_out(shop) == 0)
    failures = sum(seconds > BOUND for seconds in gone) + sum(status != 200 for status in others)
    p50, p99 = percentile(gone, 0.5), percentile(gone, 0.99)
    figure("R15", variant=f"{database.kind} {driver}".strip(), n=n, failures=failures, p50=p50, p99=p99)
    assert max(gone) < bound
    assert set(others) == {200}
    assert everything_returned
    assert "Traceback" not in shop.log, shop.log


async def _all(*work: Any) -> None:
    await asyncio.gather(*work)
