"""What a request costs in counts that no machine changes: a short way that is lost fails here.

The bounds stand some way above what was counted when they were written; the ordinary paths are far past them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.observe.recorder import Recorder
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.rest.test_fast_ways import listening
from tests.support.calls import counted, get, suspensions

pytestmark = pytest.mark.anyio

READS = {
    "read one": ("/item/500", 230),
    "list of 100": ("/item?limit=100", 290),
    "list of 100 with the total": ("/item?limit=100&count=exact", 310),
    "filter and sort": ("/item?number__gte=3&sort=-number&limit=20", 310),
}
"""Paths, and how many calls of Python functions one request may make, FastAPI's own included."""

Figure = Callable[..., None]


class System:
    """An application with one table of a thousand rows, and what its connections are asked."""

    def __init__(self, url: str, **options: Any) -> None:
        self.db = SQLAlchemy(url, **options)
        self.asked: list[tuple[str, int]] = []

        class Item(self.db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            number: Mapped[int]
            name: Mapped[str]

        self.Item = Item
        self.app = FastAPI()
        self.app.include_router(CRUDRouter(Item, db=self.db))
        self.db.create_all()
        with self.db(commit_on_exit=True):
            self.db.session.execute(
                sa.insert(Item), [{"number": number, "name": f"n{number}"} for number in range(1, 1001)]
            )

    def note(self, text: str) -> None:
        self.asked.append((text, threading.get_ident()))

    async def asked_by(self, path: str, method: str = "GET", body: bytes = b"") -> list[tuple[str, int]]:
        """The statements, with their threads, of a request that was made before."""
        await get(self.app, path, method, body, content_type="application/json")
        self.asked.clear()
        answer = await get(self.app, path, method, body, content_type="application/json")
        assert answer.status in (200, 201)
        for _ in range(3):  # asyncpg tells its loggers in the next turns of the event loop
            await asyncio.sleep(0)
        return list(self.asked)


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[System]:
    system = System(f"sqlite:///{tmp_path / 'items.db'}")
    system.db.dispose()

    @event.listens_for(system.db.engine, "connect")
    def _watch(connection: Any, _record: Any) -> None:
        connection.set_trace_callback(system.note)

    yield system
    await system.db.adispose()


@pytest.fixture
async def postgresql(postgres_url: str) -> AsyncIterator[System]:
    system = System(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))

    def note(record: Any) -> None:
        system.note(record.query)

    @event.listens_for(system.db.async_engine.sync_engine, "connect")
    def _watch(connection: Any, _record: Any) -> None:
        connection.driver_connection.add_query_logger(note)

    yield system
    await system.db.adispose()


async def calls_of(system: System, path: str) -> int:
    for _ in range(3):
        await get(system.app, path)
    with counted() as calls:
        await get(system.app, path)
    return calls.total()


@pytest.mark.parametrize("work", READS)
async def test_a_read_of_sqlite_is_one_run_of_the_event_loop(sqlite: System, work: str, figure: Figure) -> None:
    path, bound = READS[work]
    for _ in range(2):
        await get(sqlite.app, path)
    assert await suspensions(get(sqlite.app, path)) == 0
    asked = await sqlite.asked_by(path)
    assert {thread for _, thread in asked} == {threading.get_ident()}
    selects = [text for text, _ in asked if text.startswith("SELECT") and "max(rowid)" not in text]
    assert len(selects) == (2 if "total" in work else 1)
    calls = await calls_of(sqlite, path)
    figure("SPEED", variant=f"sqlite {work}", n=1, failures=int(calls > bound), calls=calls, bound=bound)
    assert calls <= bound


@pytest.mark.parametrize(
    "path", ["/item?name__icontains=nowhere", "/item?limit=1&count=exact"], ids=["a long search", "a long count"]
)
async def test_what_is_long_is_done_in_a_worker_thread(sqlite: System, path: str) -> None:
    with sqlite.db.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO item (number, name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "WHERE i < 120000) SELECT i, 'row ' || i FROM n"
        )
    loop = threading.get_ident()
    for turn in range(3):
        asked = await sqlite.asked_by(path)
        threads = [thread for text, thread in asked if ("icontains" in path or "count" in text) and "item" in text]
        assert threads, turn
        assert threads[-1] != loop
    short = await sqlite.asked_by("/item/500")
    assert {thread for _, thread in short} == {loop}


async def test_a_locked_file_is_not_waited_for_in_the_event_loop(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    system = System(f"sqlite:///{path}", sqlite={"journal_mode": "delete", "busy_timeout": 30})
    await get(system.app, "/item/500")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    reading = asyncio.create_task(get(system.app, "/item/500"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reading.done()
    assert time.monotonic() - started < 15  # half of what a wait in the event loop would take
    other.execute("ROLLBACK")
    other.close()
    assert (await reading).status == 200
    await system.db.adispose()


@pytest.mark.parametrize("work", READS)
async def test_a_read_of_postgresql_is_one_round_trip(postgresql: System, work: str, figure: Figure) -> None:
    path, bound = READS[work]
    asked = await postgresql.asked_by(path)
    assert len(asked) == (2 if "total" in work else 1)
    waits = await suspensions(get(postgresql.app, path))
    calls = await calls_of(postgresql, path)
    bound += 150 * len(asked)
    figure("SPEED", variant=f"postgresql {work}", n=1, failures=int(calls > bound), calls=calls, bound=bound)
    assert waits <= len(asked)
    assert calls <= bound


async def test_a_read_of_postgresql_makes_no_greenlet(postgresql: System) -> None:
    with Recorder():  # whose timers of checkouts stay, and rest
        pass
    for _ in range(3):
        await get(postgresql.app, "/item/500")
    with counted() as calls:
        await get(postgresql.app, "/item/500")
    assert "greenlet_spawn" not in {code.co_name for code in calls}


async def test_reads_of_postgresql_that_wait_at_the_gate_open_no_more_connections(postgres_url: str) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://")
    system = System(url, engine_args={"pool_size": 1, "max_overflow": 2}, pool_timeout=30)
    opened: list[Any] = []

    @event.listens_for(system.db.async_engine.sync_engine, "connect")
    def _opened(connection: Any, _record: Any) -> None:
        opened.append(connection)

    for _ in range(2):
        answers = await asyncio.gather(*[get(system.app, f"/item/{number}") for number in range(1, 61)])
        assert {answer.status for answer in answers} == {200}
    gone = [asyncio.create_task(get(system.app, "/item/1")) for _ in range(40)]
    await asyncio.sleep(0.001)
    for task in gone[::2]:
        task.cancel()
    assert {getattr(each, "status", 0) for each in await asyncio.gather(*gone, return_exceptions=True)} <= {0, 200}
    pool: Any = system.db.async_engine.pool
    assert (pool.gate.held, pool.gate.waiting, pool.checkedout()) == (0, 0, 0)
    assert (await get(system.app, "/item/1")).status == 200
    assert len(opened) <= 3 + len(gone[::2])  # what was cancelled at work is closed
    await system.db.adispose()


@pytest.mark.parametrize("work", READS)
async def test_the_ordinary_path_would_not_pass(postgresql: System, work: str) -> None:
    path, bound = READS[work]
    with listening(postgresql.db.async_engine.sync_engine, "before_cursor_execute"):
        assert await calls_of(postgresql, path) > bound + 150 * (2 if "total" in work else 1)


async def test_a_row_more_costs_no_call_of_a_function(sqlite: System, figure: Figure) -> None:
    few, many = await calls_of(sqlite, "/item?limit=100"), await calls_of(sqlite, "/item?limit=400")
    figure("SPEED", variant="sqlite calls per row", n=300, failures=0, calls=(many - few) / 300)
    assert many - few < 10


async def test_a_create_of_sqlite_is_one_transaction_in_one_thread(sqlite: System) -> None:
    asked = await sqlite.asked_by("/item", "POST", b'{"number": 1, "name": "a"}')
    assert [text.split()[0] for text, _ in asked] == ["PRAGMA", "BEGIN", "PRAGMA", "INSERT", "COMMIT"]  # busy_timeout
    assert len({thread for _, thread in asked}) == 1
    assert threading.get_ident() not in {thread for _, thread in asked}
    assert await suspensions(get(sqlite.app, "/item", "POST", b'{"number": 1, "name": "a"}')) <= 2


async def test_a_create_of_postgresql_is_one_round_trip(postgresql: System) -> None:
    asked = await postgresql.asked_by("/item", "POST", b'{"number": 1, "name": "a"}')
    assert [text.split()[0] for text, _ in asked] == ["INSERT"]


async def test_a_router_that_is_not_meant_is_passed_by(sqlite: System) -> None:
    """What a route costs does not grow with the routes of the routers before it, only with their number."""
    calls: list[int] = []
    for routers in (1, 21):
        app = FastAPI()
        for number in range(routers):
            app.include_router(CRUDRouter(sqlite.Item, db=sqlite.db, prefix=f"/items{number}"))

        @app.get("/plain")
        async def plain() -> None:
            return None

        for _ in range(3):
            await get(app, "/plain")
        with counted() as found:
            await get(app, "/plain")
        calls.append(found.total())
    assert (calls[1] - calls[0]) / 20 <= 12


async def test_a_route_without_the_database_pays_little_for_the_middleware(sqlite: System, figure: Figure) -> None:
    calls: dict[bool, int] = {}
    for wrapped in (False, True):
        app = FastAPI()
        if wrapped:
            app.add_middleware(DBSessionMiddleware, db=sqlite.db)

        @app.get("/plain")
        async def plain() -> dict[str, bool]:
            return {"ok": True}

        for _ in range(3):
            await get(app, "/plain")
        with counted() as found:
            await get(app, "/plain")
        calls[wrapped] = found.total()
    more = calls[True] - calls[False]
    figure("SPEED", variant="middleware, no database", n=1, failures=int(more > 20), calls=more, bound=20)
    assert more <= 20
