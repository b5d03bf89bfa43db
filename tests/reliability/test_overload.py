"""R13: ten times the load that the pool can carry is answered by 200 or 503 in time, and is over when it is over."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .databases import Database
from .servers import AppServer, Nursery
from .wire import Answer, Connection, percentile

POOL = 5
POOL_WAIT = 0.25
OPTIONS = {"engine_args": {"pool_size": POOL, "max_overflow": 0}, "pool_timeout": POOL_WAIT}
QUERY = 200
"""Milliseconds: two pools, of `def` and of `async def` routes, carry 50 requests a second."""

CAPACITY = 2 * POOL * 1000 / QUERY
CLIENTS = round(17 * CAPACITY * POOL_WAIT)
"""Who waits in vain asks again after the pool's wait and the time on the way: so many ask ten times the capacity."""


@pytest.fixture
def shop(database: Database, nursery: Nursery) -> Iterator[AppServer]:
    env = {"RELIABILITY_URL": database.url, "RELIABILITY_OPTIONS": json.dumps(OPTIONS)}
    server = nursery.start("shop", env=env)
    yield server
    server.stop()


async def ask_until(port: int, path: str, give_up: float, answers: list[Answer]) -> None:
    async with Connection(port) as connection:
        while time.monotonic() < give_up:
            answers.append(await connection.request("GET", path))


async def load(port: int, clients: int, seconds: float) -> list[Answer]:
    """So many clients that ask again as soon as they are answered, at both engines."""
    answers, give_up = list[Answer](), time.monotonic() + seconds
    paths = [f"/middleware/{mode}/pause/{QUERY}" for mode in ("sync", "async")]
    await asyncio.gather(*(ask_until(port, paths[number % 2], give_up, answers) for number in range(clients)))
    return answers


def test_r13_ten_times_the_load_is_answered_in_time_and_leaves_nothing(
    shop: AppServer, database: Database, size: Callable[[int, int], int], figure: Any
) -> None:
    if database.kind == "sqlite":
        pytest.skip("SQLite answers as fast as the processor does: there is no pool to be waited for")
    seconds = size(3, 60)

    async def scenario() -> tuple[list[Answer], list[Answer], list[Answer]]:
        before = await load(shop.port, 2 * POOL, 1)
        during = await load(shop.port, CLIENTS, seconds)
        await asyncio.sleep(1)
        return before, during, await load(shop.port, 2 * POOL, 1)

    before, during, after = asyncio.run(scenario())
    statuses = Counter(answer.status for answer in during)
    accepted = [answer.seconds for answer in during if answer.status == 200]
    p50, p99 = percentile(accepted, 0.5), percentile(accepted, 0.99)
    wrong = sum(count for status, count in statuses.items() if status not in (200, 503))
    figure(
        "R13",
        variant=database.kind,
        n=len(during),
        failures=wrong + sum(answer.status != 200 for answer in after),
        refused=statuses[503],
        times_capacity=round(len(during) / seconds / CAPACITY, 1),
        p50=p50,
        p99=p99,
        speed_after=round(len(after) / len(before), 2),
    )
    assert set(statuses) == {200, 503}
    assert p99 < POOL_WAIT + size(5, 1)
    assert {answer.status for answer in after} == {200}
    assert len(after) > len(before) * 0.3
