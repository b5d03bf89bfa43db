"""``def`` endpoints behind the session dependency take turns: few work at a time, and none waits for a slow one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import text
from sqlalchemy.orm import Session

from fastapi_sqlalchemy import SQLAlchemy
from tests.support.calls import get


class Counter:
    """How many are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


def application(db: SQLAlchemy, counter: Counter, pause: Callable[[], object]) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def endpoint(session: Session = Depends(db.get_session)) -> int:
        with counter:
            pause()
            return int(session.scalar(text("SELECT 1")) or 0)

    return app


async def ask(app: Any, number: int) -> list[int]:
    return [answer.status for answer in await asyncio.gather(*(get(app, "/") for _ in range(number)))]


def test_one_endpoint_at_a_time_works_on_sqlite(sqlite_url: str) -> None:
    db, counter = SQLAlchemy(sqlite_url), Counter()
    app = application(db, counter, lambda: None)
    for _ in range(5):  # a machine that stops for a moment lets the others go ahead; not five times in a row
        counter.most = 0
        assert asyncio.run(ask(app, 20)) == [200] * 20
        if counter.most == 1:
            break
    assert counter.most == 1
    db.dispose()


def test_endpoints_that_take_long_go_on_side_by_side(sqlite_url: str) -> None:
    db, counter = SQLAlchemy(sqlite_url), Counter()
    meeting = threading.Barrier(5)
    app = application(db, counter, lambda: meeting.wait(20))
    assert asyncio.run(ask(app, 5)) == [200] * 5
    assert counter.most == 5
    db.dispose()


def test_a_slow_endpoint_does_not_keep_another_one_back(sqlite_url: str) -> None:
    db, counter = SQLAlchemy(sqlite_url), Counter()
    quick_is_done = threading.Event()
    app = application(db, counter, lambda: quick_is_done.wait(20))

    @app.get("/quick")
    def quick(session: Session = Depends(db.get_session)) -> int:
        return int(session.scalar(text("SELECT 2")) or 0)

    async def both() -> bytes:
        slow = asyncio.create_task(get(app, "/"))
        await asyncio.sleep(0.05)
        answer = await get(app, "/quick")
        quick_is_done.set()
        assert (await slow).status == 200
        return answer.body

    assert asyncio.run(both()) == b"2"
    db.dispose()


@pytest.mark.parametrize("patience", [0.001, 0.2])
def test_a_request_that_is_given_up_while_it_waits_leaves_the_turn_to_the_next(
    sqlite_url: str, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_sqlalchemy.turns.PATIENCE", patience)
    db, counter = SQLAlchemy(sqlite_url), Counter()
    app = application(db, counter, lambda: time.sleep(0.002))

    async def cancelled_in_the_middle() -> list[Any]:
        requests = [asyncio.create_task(get(app, "/")) for _ in range(12)]
        await asyncio.sleep(0.004)
        for request in requests[::2]:
            request.cancel()
        return await asyncio.gather(*requests, return_exceptions=True)

    async def run() -> None:
        outcomes = await cancelled_in_the_middle()
        assert [outcome.status for outcome in outcomes[1::2]] == [200] * 6
        assert await ask(app, 5) == [200] * 5

    asyncio.run(run())
    db.dispose()
