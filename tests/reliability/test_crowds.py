"""A thousand clients on five connections: all are served, and routes without a database never wait for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from .databases import Database
from .servers import AppServer
from .wire import Answer, Connection, fetch, percentile

CLIENTS = 1_000
BOUND = 10.0
CROWDS = {
    "middleware": ("R11", ["/middleware/session", "/middleware/query"]),
    "dependency and CRUDRouter": ("R11", ["/dependency/session", "/dependency/crud/sync/items?limit=10"]),
    "async": (
        "R12",
        ["/middleware/session-async", "/dependency/session-async", "/dependency/crud/async/items?limit=10"],
    ),
}


@pytest.mark.parametrize("name", CROWDS)
def test_a_thousand_clients_on_a_pool_of_five_are_all_served(
    shop: AppServer, database: Database, name: str, size: Callable[[int, int], int], figure: Any
) -> None:
    row, paths = CROWDS[name]
    for _ in range(size(1, 20)):
        begun = time.monotonic()
        answers = asyncio.run(crowd(shop.port, paths))
        seconds = time.monotonic() - begun
        errors = [answer for answer in answers if not isinstance(answer, Answer) or answer.status != 200]
        times = [answer.seconds for answer in answers if isinstance(answer, Answer)]
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        variant = f"{database.kind} {name}"
        figure(row, variant=variant, n=len(answers), failures=len(errors), p50=p50, p99=p99, seconds=seconds)
        assert errors == []
        assert seconds < BOUND * size(3, 1)  # the small form runs beside other tests


async def crowd(port: int, paths: list[str]) -> list[Answer | BaseException]:
    """All clients at once, each on a connection of its own."""
    clients = (asyncio.wait_for(fetch(port, "GET", paths[number % len(paths)]), 30) for number in range(CLIENTS))
    return await asyncio.gather(*clients, return_exceptions=True)


@pytest.mark.parametrize("door", ["middleware", "dependency"])
def test_a_route_without_database_answers_while_a_hundred_wait_for_a_connection(
    shop: AppServer, database: Database, door: str, figure: Any
) -> None:
    async def scenario() -> tuple[list[Answer], bool, list[Answer]]:
        holding = [asyncio.create_task(fetch(shop.port, "GET", f"/{door}/sync/hold")) for _ in range(5)]
        async with Connection(shop.port) as other:
            while (await other.request("GET", "/checked-out")).body != b"5":
                await asyncio.sleep(0.005)
            waiting = [asyncio.create_task(fetch(shop.port, "GET", f"/{door}/session")) for _ in range(100)]
            for _ in range(5):
                await other.request("GET", f"/{door}/plain-async")
            plain = [await other.request("GET", f"/{door}/plain") for _ in range(20)]
            nobody_was_served = not any(task.done() for task in [*holding, *waiting])
            await other.request("GET", "/release")
        return plain, nobody_was_served, await asyncio.gather(*holding, *waiting)

    plain, nobody_was_served, answers = asyncio.run(scenario())
    times = [answer.seconds for answer in plain]
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    figure("R11", variant=f"{database.kind} plain route beside {door}", n=20, failures=0, p50=p50, p99=p99)
    assert nobody_was_served
    assert {answer.status for answer in [*plain, *answers]} == {200}
