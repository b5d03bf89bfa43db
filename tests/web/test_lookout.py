"""The watch over clients costs nothing where there is nothing to watch, and one timer for all requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from tests.support.calls import counted, get

pytestmark = pytest.mark.anyio

Figure = Callable[..., None]


def application(db: SQLAlchemy | None) -> FastAPI:
    app = FastAPI()
    if db is not None:
        app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/plain")
    async def plain() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/query")
    def query() -> int:
        assert db is not None
        return int(db.session.scalar(text("SELECT 1")) or 0)

    return app


async def calls_of(app: FastAPI, path: str) -> int:
    """The calls of functions in a request, in the one that nothing else of the event loop came between."""
    totals: list[int] = []
    for _ in range(8):
        with counted() as calls:
            await get(app, path)
        totals.append(calls.total())
    return min(totals)


async def test_a_request_without_database_costs_ten_calls_more_behind_the_middleware(
    sqlite_url: str, figure: Figure
) -> None:
    db, bound = SQLAlchemy(sqlite_url), 10
    calls = await calls_of(application(db), "/plain") - await calls_of(application(None), "/plain")
    figure("SPEED", variant="no database", n=1, failures=int(calls > bound), calls=calls, bound=bound)
    assert calls <= bound
    await db.adispose()


async def test_many_requests_of_def_endpoints_wake_the_event_loop_once_for_the_watch(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = SQLAlchemy(sqlite_url)
    app = application(db)
    await get(app, "/query")
    loop = asyncio.get_running_loop()
    names = list[str]()
    call_soon_threadsafe, call_later = loop.call_soon_threadsafe, loop.call_later

    def soon(function: Any, *arguments: Any, **options: Any) -> Any:
        names.append(getattr(function, "__qualname__", ""))
        return call_soon_threadsafe(function, *arguments, **options)

    def later(seconds: float, function: Any, *arguments: Any, **options: Any) -> Any:
        names.append(getattr(function, "__qualname__", ""))
        return call_later(seconds, function, *arguments, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", soon)
    monkeypatch.setattr(loop, "call_later", later)
    for _ in range(10):
        assert (await get(app, "/query")).status == 200
    assert sum(name.startswith(("Lookout", "Departure")) for name in names) < 10
    await db.adispose()
