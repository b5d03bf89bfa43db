"""R8: transactions that deadlock, or could not have run one after the other, are run again, a few times at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from .databases import Database
from .servers import AppServer
from .wire import Answer, Connection, percentile

MOST_ATTEMPTS = 4


@pytest.mark.parametrize("kind", ["deadlock", "skew"])
def test_r8_pairs_that_collide_are_run_again(
    shop: AppServer, database: Database, kind: str, size: Callable[[int, int], int], figure: Any
) -> None:
    n, answers = size(20, 500), list[Answer]()
    database.run("INSERT INTO counter (id, value) VALUES (101, 0), (102, 0)")

    async def scenario() -> None:
        async with Connection(shop.port) as one, Connection(shop.port) as other:
            for number in range(n):
                mode = "async" if number % 2 else "sync"
                pair = (
                    one.request("POST", f"/middleware/{mode}/{kind}/101/102"),
                    other.request("POST", f"/middleware/{mode}/{kind}/102/101"),
                )
                answers.extend(await asyncio.gather(*pair))

    asyncio.run(scenario())
    values = database.scalars("SELECT value FROM counter WHERE id IN (101, 102) ORDER BY id")
    database.run("DELETE FROM counter WHERE id IN (101, 102)")
    done = [answer.json() for answer in answers if answer.status == 200]
    wrong = [answer.status for answer in answers if answer.status not in (200, 409, 503)]
    lost = abs(2 * len(done) - sum(values)) if kind == "deadlock" else 0
    times = [answer.seconds for answer in answers]
    figure(
        "R8",
        variant=f"{database.kind} {kind}",
        n=n,
        failures=len(wrong) + lost + sum(attempts > MOST_ATTEMPTS for attempts in done),
        acknowledged=len(done),
        repeated=sum(attempts > 1 for attempts in done),
        p50=percentile(times, 0.5),
        p99=percentile(times, 0.99),
    )
    assert wrong == []
    assert lost == 0
    assert max(done) <= MOST_ATTEMPTS
    if database.kind != "sqlite":
        assert max(done) > 1 or len(done) < len(answers), "nothing has collided"
    if kind == "skew":  # each is one more than the other one was: together they tell that one came after the other
        assert values[0] != values[1]
