"""A response given up half-way, most often because its client is gone, is no clean end: nothing is committed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, Session, SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter

from .databases import KINDS, Database, new_database
from .test_cancellation import DRIVERS
from .test_departures import BOUND
from .wire import percentile

STEPS = "WITH RECURSIVE step(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < 60000000)"
SLOW = {
    "sqlite": f"{STEPS} SELECT max(n) FROM step",
    "postgresql": "SELECT pg_sleep(10)",
    "mariadb": "SELECT SLEEP(10)",
}


class Client:
    """An HTTP client, seen from the application, that goes away when it is told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.status = 0
        self.received = b""

    async def request(self, app: Any, path: str) -> None:
        begun = False

        async def receive() -> Any:
            nonlocal begun
            if not begun:
                begun = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            elif not self.gone.is_set():
                self.received += message.get("body", b"")

        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "scheme": "http",
            "root_path": "",
        }
        await app(scope, receive, send)


@pytest.mark.parametrize("writes", [False, True], ids=["reading", "writing"])
@pytest.mark.parametrize("interrupted", ["in a statement", "between statements"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_stream_whose_client_is_gone_commits_nothing_and_raises_nothing(
    driver: str, interrupted: str, writes: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind, drivername = DRIVERS[driver]

    async def scenario(database: Database) -> None:
        db = SQLAlchemy(
            database.with_driver(drivername), commit_on_exit=True, engine_args={"pool_size": 1, "max_overflow": 0}
        )

        class Row(db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)

        await db.acreate_all()
        app = FastAPI()
        app.add_middleware(DBSessionMiddleware, db=db, create_tables=False)
        client = Client()

        @app.get("/stream")
        async def stream() -> StreamingResponse:
            async def lines() -> AsyncIterator[str]:
                session = db.async_session
                yield f"{await session.scalar(sa.select(sa.func.count()).select_from(Row))}"
                if writes:
                    session.add(Row(id=1))
                    await session.flush()
                if interrupted == "in a statement":
                    asyncio.get_running_loop().call_later(0.05, client.gone.set)
                    await session.execute(sa.text(SLOW[kind]))
                else:
                    client.gone.set()
                    await asyncio.Event().wait()

            return StreamingResponse(lines())

        await client.request(app, "/stream")
        assert (client.status, client.received) == (200, b"0")
        async with db():
            assert await db.async_session.scalar(sa.select(sa.func.count()).select_from(Row)) == 0
        await db.adispose()

    with caplog.at_level(logging.WARNING, logger="fastapi_sqlalchemy"), new_database(kind, tmp_path) as database:
        asyncio.run(scenario(database))
        assert not [record for record in caplog.records if record.name == "fastapi_sqlalchemy"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_tells_of_a_stream_whose_statement_was_ended(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(database: Database) -> None:
        db = SQLAlchemy(database.url)
        app = FastAPI()
        app.add_middleware(DBSessionMiddleware, db=db, create_tables=False)
        client, loop = Client(), asyncio.get_running_loop()

        @app.get("/stream")
        def stream() -> StreamingResponse:
            def lines() -> Iterator[str]:
                yield f"{db.session.scalar(sa.text('SELECT 1'))}"
                loop.call_soon_threadsafe(loop.call_later, 0.05, client.gone.set)
                db.session.execute(sa.text(SLOW[kind]))

            return StreamingResponse(lines())

        await client.request(app, "/stream")
        assert (client.status, client.received) == (200, b"1")
        db.dispose()

    with caplog.at_level(logging.INFO, logger="fastapi_sqlalchemy"), new_database(kind, tmp_path) as database:
        asyncio.run(scenario(database))
        (record,) = [record for record in caplog.records if record.name == "fastapi_sqlalchemy"]
        assert record.levelno == logging.INFO
        assert "The client of a stream is gone" in record.getMessage()
        assert not [word for word in ("SELECT", "Traceback") if word in record.getMessage()]


SLEEPING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND state = 'active' AND query LIKE '%slow%' AND pid <> pg_backend_pid()",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() "
    "AND info LIKE 'SELECT SLEEP(%'",
}


async def leave(app: Any, path: str, running: Callable[[], bool]) -> float:
    """Ask, go away once the statement runs, and wait until it does no more; how many seconds that took."""
    client = Client()
    request = asyncio.create_task(client.request(app, path))
    while not await asyncio.to_thread(running):
        await asyncio.sleep(0.01)
    client.gone.set()
    begun = time.monotonic()
    async with asyncio.timeout(20):
        while await asyncio.to_thread(running):
            await asyncio.sleep(0.01)
        await request
    return time.monotonic() - begun


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("kind", KINDS)
def test_r15_behind_the_dependency_alone_a_query_ends_with_its_client(
    kind: str, mode: str, tmp_path: Path, size: Callable[[int, int], int], figure: Any
) -> None:
    slow = sa.text(f"{SLOW[kind]} -- slow")
    n, gone = size(2, 50), list[float]()

    async def scenario(database: Database) -> None:
        db = SQLAlchemy(database.url, engine_args={"pool_size": 1, "max_overflow": 0})
        app = FastAPI()

        @app.get("/sync")
        def slowly(session: Session = Depends(db.get_session)) -> None:
            session.execute(slow)

        @app.get("/async")
        async def slowly_async(session: AsyncSession = Depends(db.get_async_session)) -> None:
            await session.execute(slow)

        def running() -> bool:
            if kind in SLEEPING:
                return database.scalar(SLEEPING[kind]) > 0
            pool: Any = (db.engine if mode == "sync" else engine).pool
            return bool(pool.checkedout() > 0)

        engine = db.async_engine.sync_engine
        for _ in range(n):
            gone.append(await leave(app, f"/{mode}", running))
            async with db():
                assert await db.async_session.scalar(sa.text("SELECT 1")) == 1
        await db.adispose()
        db.dispose()

    with new_database(kind, tmp_path) as database:
        asyncio.run(scenario(database))
    p50, p99 = percentile(gone, 0.5), percentile(gone, 0.99)
    failures = sum(seconds > BOUND for seconds in gone)
    figure("R15", variant=f"{kind} {mode}, the dependency alone", n=n, failures=failures, p50=p50, p99=p99)
    assert max(gone) < size(8, 1) * BOUND


@pytest.mark.parametrize("replica", [False, True], ids=["alone", "on a replica"])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_r15_a_plain_read_of_a_generated_route_ends_with_its_client(
    driver: str, replica: bool, tmp_path: Path, size: Callable[[int, int], int], figure: Any
) -> None:
    n, gone, bound_met = size(2, 50), list[float](), list[int]()

    async def scenario(database: Database) -> None:
        url = database.with_driver(f"postgresql+{driver}")
        # a primary may be read from as well, and stands in for its replica here
        options: Any = {"replicas": [url]} if replica else {}
        db = SQLAlchemy(url, engine_args={"pool_size": 1, "max_overflow": 0}, **options)

        class Slow(db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

        async with db.async_engine.begin() as connection:
            await connection.exec_driver_sql("CREATE VIEW slow AS SELECT 1 AS id, 'a' || pg_sleep(30) AS name")

        def app_of(database: SQLAlchemy) -> FastAPI:
            app = FastAPI()
            app.add_middleware(DBSessionMiddleware, db=database, create_tables=False)
            app.include_router(CRUDRouter(Slow, db=database, prefix="/slow"))
            return app

        app = app_of(db)
        for number in range(n):
            path = "/slow" if number % 2 else "/slow/1"
            gone.append(await leave(app, path, lambda: database.scalar(SLEEPING["postgresql"]) > 0))
            async with db():
                assert await db.async_session.scalar(sa.text("SELECT 1")) == 1
        await db.adispose()
        db.init(url, request_timeout=0.2)
        for path in ("/slow", "/slow/1"):
            client = Client()
            await client.request(app_of(db), path)
            bound_met.append(client.status)
            while database.scalar(SLEEPING["postgresql"]):
                await asyncio.sleep(0.01)
        await db.adispose()

    with new_database("postgresql", tmp_path) as database:
        asyncio.run(scenario(database))
    p50, p99 = percentile(gone, 0.5), percentile(gone, 0.99)
    failures = sum(seconds > BOUND for seconds in gone)
    figure(
        "R15",
        variant=f"postgresql {driver}, generated route{', replica' * replica}",
        n=n,
        failures=failures,
        p50=p50,
        p99=p99,
    )
    assert max(gone) < size(8, 1) * BOUND
    assert bound_met == [503, 503]
