"""R36: misuse gets the right result, or an error that names the cure; a connection is never left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import (
    AsyncScopeRequiredError,
    AsyncSession,
    ConcurrentSessionUseError,
    DBSessionMiddleware,
    MissingSessionError,
    ModelBase,
    ReadOnlyError,
    Session,
    SessionClosedError,
    SQLAlchemy,
    TransactionUsageError,
)
from tests.support.client import TestClient

from .databases import KINDS, new_database


class Bench:
    """A database with one model, and an application for each door."""

    def __init__(self, url: str) -> None:
        self.db = SQLAlchemy(url, engine_args={"pool_size": 3, "max_overflow": 0}, pool_timeout=2)
        db = self.db

        class Note(ModelBase, db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            text: Mapped[str] = mapped_column(sa.String(20))

        self.Note = Note
        self.count = sa.select(sa.func.count()).select_from(Note)
        self.apps = {"middleware": FastAPI(), "dependency": FastAPI()}
        self.apps["middleware"].add_middleware(DBSessionMiddleware, db=db, create_tables=False)
        self.tasks: list[asyncio.Task[Any]] = []
        for door, app in self.apps.items():
            self._add_routes(door, app)

    def _add_routes(self, door: str, app: FastAPI) -> None:
        db, note, count = self.db, self.Note, self.count

        async def current() -> Session:
            return db.session

        async def current_async() -> AsyncSession:
            return db.async_session

        given: Any = Depends(current if door == "middleware" else db.get_session)
        given_async: Any = Depends(current_async if door == "middleware" else db.get_async_session)

        @app.get("/background")
        def background(tasks: BackgroundTasks, session: Session = given) -> None:
            def store() -> None:
                session.add(note(text="later"))
                session.commit()

            tasks.add_task(store)

        @app.get("/background-async")
        async def background_async(tasks: BackgroundTasks, session: AsyncSession = given_async) -> None:
            async def store() -> None:
                session.add(note(text="later"))
                await session.commit()

            tasks.add_task(store)

        @app.get("/stream")
        def stream(session: Session = given) -> StreamingResponse:
            def lines() -> Iterator[str]:
                for _ in range(3):
                    yield f"{session.scalar(count)} "

            return StreamingResponse(lines())

        @app.get("/stream-async")
        async def stream_async(session: AsyncSession = given_async) -> StreamingResponse:
            async def lines() -> AsyncIterator[str]:
                for _ in range(3):
                    yield f"{await session.scalar(count)} "

            return StreamingResponse(lines())

        @app.websocket("/socket")
        async def socket(websocket: WebSocket, session: Session = given) -> None:
            await websocket.accept()
            async for text in websocket.iter_text():
                session.add(note(text=text))
                session.commit()
                await websocket.send_text(str(session.scalar(count)))

        @app.websocket("/socket-async")
        async def socket_async(websocket: WebSocket, session: AsyncSession = given_async) -> None:
            await websocket.accept()
            async for text in websocket.iter_text():
                session.add(note(text=text))
                await session.commit()
                await websocket.send_text(str(await session.scalar(count)))

        @app.get("/gather")
        async def gather(session: AsyncSession = given_async) -> None:
            await asyncio.gather(*(session.execute(count) for _ in range(3)))

        @app.get("/threads")
        def threads(session: Session = given) -> None:
            both = threading.Barrier(2)

            def use() -> None:
                both.wait()
                for _ in range(200):
                    session.execute(count)

            with ThreadPoolExecutor(2) as pool:
                for future in [pool.submit(use), pool.submit(use)]:
                    future.result()

        @app.get("/outlives")
        async def outlives(session: AsyncSession = given_async) -> None:
            async def ask(request_is_over: asyncio.Event) -> Any:
                await request_is_over.wait()
                return await session.scalar(count)

            self.request_is_over = asyncio.Event()
            self.tasks.append(asyncio.create_task(ask(self.request_is_over)))

        @app.get("/outlived")
        async def outlived() -> str:
            self.request_is_over.set()
            try:
                return str(await self.tasks.pop())
            except SessionClosedError as error:
                return str(error)


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with new_database(request.param, tmp_path) as database:
        bench = Bench(database.url)
        bench.db.create_all()
        yield bench
        bench.db.dispose()
        assert database.open_transactions() == 0


def ask(bench: Bench, door: str, use: Callable[[TestClient], None]) -> None:
    """Use an application, then find every pool of its event loop whole."""
    with TestClient(bench.apps[door]) as client:
        use(client)
        assert client.portal is not None
        out = client.portal.call(lambda: bench.db.async_engine.pool.checkedout())  # type: ignore[attr-defined]
        assert (out, bench.db.engine.pool.checkedout()) == (0, 0)  # type: ignore[attr-defined]
        client.portal.call(bench.db.adispose)


def rows(bench: Bench) -> int:
    with bench.db():
        return int(bench.db.session.scalar(bench.count) or 0)


@pytest.mark.parametrize("path", ["/background", "/background-async"])
def test_a_background_task_has_a_live_session_behind_the_middleware_and_an_error_behind_the_dependency(
    bench: Bench, path: str, figure: Any
) -> None:
    def live(client: TestClient) -> None:
        assert client.get(path).status_code == 200

    def closed(client: TestClient) -> None:
        with pytest.raises(SessionClosedError, match="needs a scope of its own"):
            client.get(path)

    ask(bench, "middleware", live)
    assert rows(bench) == 1
    ask(bench, "dependency", closed)
    assert rows(bench) == 1
    figure("R36", variant=f"{bench.db.url.get_backend_name()} {path}", n=2, failures=0)


@pytest.mark.parametrize("path", ["/stream", "/stream-async"])
def test_a_stream_has_a_live_session_behind_the_middleware_and_an_error_behind_the_dependency(
    bench: Bench, path: str, figure: Any
) -> None:
    def live(client: TestClient) -> None:
        assert client.get(path).text == "0 0 0 "

    def closed(client: TestClient) -> None:
        with pytest.raises(SessionClosedError, match="needs a scope of its own"):
            client.get(path)

    ask(bench, "middleware", live)
    ask(bench, "dependency", closed)
    figure("R36", variant=f"{bench.db.url.get_backend_name()} {path}", n=2, failures=0)


@pytest.mark.parametrize("path", ["/socket", "/socket-async"])
def test_a_websocket_has_a_live_session_behind_both_doors(bench: Bench, path: str, figure: Any) -> None:
    def talk(client: TestClient) -> None:
        before = rows(bench)
        with client.websocket_connect(path) as socket:
            for number in (1, 2):
                socket.send_text("hello")
                assert socket.receive_text() == str(before + number)

    for door in bench.apps:
        ask(bench, door, talk)
    assert rows(bench) == 4
    figure("R36", variant=f"{bench.db.url.get_backend_name()} {path}", n=2, failures=0)


@pytest.mark.parametrize("path", ["/gather", "/threads"])
def test_two_users_of_one_session_at_a_time_get_an_error_that_names_the_cure(
    bench: Bench, path: str, figure: Any
) -> None:
    def misuse(client: TestClient) -> None:
        with pytest.raises(ConcurrentSessionUseError, match="a scope of its own"):
            client.get(path)

    for door in bench.apps:
        ask(bench, door, misuse)
    figure("R36", variant=f"{bench.db.url.get_backend_name()} {path}", n=2, failures=0)


def test_a_task_that_outlives_its_request_gets_an_error_that_names_the_cure(bench: Bench, figure: Any) -> None:
    def outlive(client: TestClient) -> None:
        assert client.get("/outlives").status_code == 200
        assert "needs a scope of its own" in client.get("/outlived").json()

    for door in bench.apps:
        ask(bench, door, outlive)
    figure("R36", variant=f"{bench.db.url.get_backend_name()} outliving task", n=2, failures=0)


def test_use_outside_of_a_scope_and_after_its_end_gets_an_error_that_names_the_cure(bench: Bench, figure: Any) -> None:
    db, count = bench.db, bench.count

    async def asynchronous() -> None:
        with pytest.raises(MissingSessionError, match="async with db"):
            _ = db.async_session
        async with db():
            kept = db.async_session
            await kept.execute(count)
        with pytest.raises(SessionClosedError, match="async with db"):
            await kept.execute(count)
        await kept.close()
        with db(), pytest.raises(AsyncScopeRequiredError, match="async with db"):
            _ = db.async_session
        with pytest.raises(ReadOnlyError, match="read_only"):
            async with db.read_only():
                db.async_session.add(bench.Note(text="no"))
                await db.async_session.flush()
        with pytest.raises(TransactionUsageError, match="decorate"):
            async with db.transaction(retries=1):
                pass
        await db.adispose()

    with pytest.raises(MissingSessionError, match="with db"):
        _ = db.session
    with pytest.raises(MissingSessionError, match="with db"):
        _ = bench.Note.query
    with db():
        kept = db.session
        kept.execute(count)
        found: list[bool] = []

        def use_from_a_thread() -> None:
            with pytest.raises(MissingSessionError, match="with db"):
                _ = db.session
            found.append(True)

        other = threading.Thread(target=use_from_a_thread)
        other.start()
        other.join()
        assert found == [True]
    with pytest.raises(SessionClosedError, match="with db"):
        kept.execute(count)
    with pytest.raises(SessionClosedError, match="with db"):
        kept.add(bench.Note(text="no"))
        kept.flush()
    kept.close()
    asyncio.run(asynchronous())
    assert rows(bench) == 0
    figure("R36", variant=f"{bench.db.url.get_backend_name()} scopes", n=10, failures=0)
