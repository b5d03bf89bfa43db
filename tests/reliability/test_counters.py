"""R7: increments of one counter by many clients at once: what was acknowledged is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import doors
from .databases import Database
from .servers import AppServer
from .wire import Answer, Connection, percentile

CLIENTS = 32
# small: 408 in all for the four ways on three databases; full: 10,008
WAYS = {
    "expression": ("counter", [f"{door}/counters" for door in doors()]),
    "version column": ("versioned", [f"{door}/versioned" for door in doors()]),
    "row lock": ("counter", ["/middleware/sync/locked", "/middleware/async/locked"]),
    "If-Match": ("versioned", ["/middleware/crud/sync/versioned", "/middleware/crud/async/versioned"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_r7_no_acknowledged_increment_is_lost(
    shop: AppServer, database: Database, way: str, size: Callable[[int, int], int], figure: Any
) -> None:
    table, paths = WAYS[way]
    n, number = size(34, 834), list(WAYS).index(way) + 1
    version = ", version" if table == "versioned" else ""
    database.run(f"INSERT INTO {table} (id, value{version}) VALUES ({number}, 0{version and ', 1'})")
    left, answers = n, list[Answer]()

    async def increment(path: str) -> None:
        """Send it again after a conflict, as a client does."""
        nonlocal left
        async with Connection(shop.port) as connection:
            while left > 0:
                left -= 1
                while True:
                    answer = await add_one(connection, f"{path}/{number}")
                    answers.append(answer)
                    if answer.status not in (409, 412):
                        break

    async def add_one(connection: Connection, path: str) -> Answer:
        if way != "If-Match":
            return await connection.request("POST", path)
        seen = await connection.request("GET", path)
        body = {"value": seen.json()["value"] + 1}
        return await connection.request("PATCH", path, body, {"If-Match": seen.headers["etag"]})

    async def scenario() -> None:
        await asyncio.gather(*(increment(paths[client % len(paths)]) for client in range(CLIENTS)))

    asyncio.run(scenario())
    statuses = Counter(answer.status for answer in answers)
    final = database.scalar(f"SELECT value FROM {table} WHERE id = {number}")
    database.run(f"DELETE FROM {table} WHERE id = {number}")
    times = [answer.seconds for answer in answers]
    figure(
        "R7",
        variant=f"{database.kind} {way}",
        n=n,
        failures=abs(statuses[200] - final) + n - statuses[200],
        conflicts=statuses[409] + statuses[412],
        p50=percentile(times, 0.5),
        p99=percentile(times, 0.99),
    )
    assert set(statuses) <= {200, 409, 412}
    assert statuses[200] == final == n
