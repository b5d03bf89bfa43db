"""What a status says is what the database holds: no success without its row, no row without its success."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import checked_out, doors, eventually
from .databases import Database
from .servers import AppServer
from .wire import Connection, fetch, percentile

BROKEN = {"sqlite": ["dangling"], "postgresql": ["dangling", "skewed", "cut_off"], "mariadb": ["cut_off"]}
STATUS = {"dangling": 409, "skewed": 409, "cut_off": 503}
REFUSED = ["raised", "crash", "invalid", "aborted", "json", "stream", "empty"]


def test_r3_a_created_row_is_seen_at_once_by_another_connection(
    shop: AppServer, database: Database, size: Callable[[int, int], int], figure: Any
) -> None:
    n = size(500, 10_000)
    misses: list[str] = []
    seconds: list[float] = []

    async def client(prefix: str, number: int) -> None:
        async with Connection(shop.port) as writer, Connection(shop.port) as reader:
            for turn in range(number):
                made = await writer.request("POST", f"{prefix}/items", {"name": f"r3 {turn}"})
                found = await reader.request("GET", f"{prefix}/items/{made.json()['id']}")
                seconds.append(made.seconds + found.seconds)
                if (made.status, found.status) != (201, 200) or found.body != made.body:
                    misses.append(f"{prefix} {made} {found}")

    async def scenario() -> None:
        await asyncio.gather(*(client(prefix, -(-n // 8)) for prefix in doors() for _ in range(2)))

    asyncio.run(scenario())
    p50, p99 = percentile(seconds, 0.5), percentile(seconds, 0.99)
    figure("R3", variant=database.kind, n=len(seconds), failures=len(misses), p50=p50, p99=p99)
    assert misses == []


def test_r4_a_commit_that_fails_is_the_answer_and_leaves_no_row(
    shop: AppServer, database: Database, size: Callable[[int, int], int], figure: Any
) -> None:
    kinds = BROKEN[database.kind]
    turns = list(itertools.islice(itertools.cycle(itertools.product(kinds, doors())), size(50, 500)))
    wrong: list[str] = []

    async def scenario() -> None:
        for kind, prefix in turns:
            answer = await fetch(shop.port, "POST", f"{prefix}/broken/{kind}", {"name": "r4"})
            if answer.status != STATUS[kind]:
                wrong.append(f"{kind} {prefix}: {answer}")

    asyncio.run(scenario())
    rows = database.scalar("SELECT count(*) FROM item WHERE name = 'r4'")
    figure("R4", variant=database.kind, n=len(turns), failures=len(wrong) + rows)
    assert (wrong, rows) == ([], 0)
    assert eventually(lambda: checked_out(shop) == 0)


def test_r5_an_answer_of_400_or_more_keeps_no_row(
    shop: AppServer, database: Database, size: Callable[[int, int], int], seed: int, figure: Any
) -> None:
    cases = [
        (prefix, kind)
        for prefix, kind in itertools.product(doors(), REFUSED)
        if prefix.startswith("/middleware") or kind not in ("json", "stream", "empty")
    ]
    chance = random.Random(seed)
    turns = cases + chance.choices(cases, k=max(0, size(100, 1_000) - len(cases)))
    wrong: list[str] = []

    async def scenario() -> None:
        for prefix, kind in turns:
            answer = await fetch(shop.port, "POST", f"{prefix}/refused/{kind}", {"name": "r5"})
            if answer.status < 400:
                wrong.append(f"{kind} {prefix}: {answer}")

    asyncio.run(scenario())
    rows = database.scalar("SELECT count(*) FROM item WHERE name = 'r5'")
    figure("R5", variant=database.kind, n=len(turns), seed=seed, failures=len(wrong) + rows)
    assert (wrong, rows) == ([], 0)
    assert eventually(lambda: checked_out(shop) == 0)


@pytest.fixture(autouse=True)
def no_error_in_the_pool(shop: AppServer) -> None:
    assert checked_out(shop) == 0
