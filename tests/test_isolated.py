"""``db.isolated()``: whatever the code under test commits is gone at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, Session, SQLAlchemy, TransactionUsageError
from fastapi_sqlalchemy.web.health import health_router
from tests.support.client import TestClient

pytestmark = pytest.mark.anyio


@pytest.fixture
def db(database_url: str) -> Iterator[SQLAlchemy]:
    db = SQLAlchemy(database_url)

    class Item(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int]

    db.create_all()
    yield db
    with db():
        assert Item.query.count() == 0
    db.dispose()


def model(db: SQLAlchemy) -> Any:
    return next(iter(db.Base.registry.mappers)).class_


def test_commits_of_a_scope_are_rolled_back(db: SQLAlchemy) -> None:
    item = model(db)
    with db.isolated() as same:
        assert same is db
        with db():
            item.new(number=1)
            db.session.add(item(number=2))
            db.session.commit()
            db.session.add(item(number=3))
            db.session.rollback()
        with db():
            assert sorted(row.number for row in item.query) == [1, 2]
        with db.transaction():
            item.new(number=4)
        ran: list[int] = []
        with db(commit_on_exit=True):
            item.new(number=5)
            db.on_commit(lambda: ran.append(1))
        assert ran == [1]
        with db():
            assert item.query.count() == 4


def test_commits_of_requests_and_background_tasks_are_rolled_back(db: SQLAlchemy) -> None:
    item = model(db)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    def later() -> None:
        item.new(number=10)

    @app.post("/sync")
    def add(tasks: BackgroundTasks) -> int:
        tasks.add_task(later)
        item.new(number=1)
        return int(item.query.count())

    @app.post("/dependency")
    def add_by_dependency(session: Session = Depends(db.get_session)) -> int:
        session.add(item(number=2))
        session.commit()
        return session.query(item).count()

    @app.post("/async")
    async def add_async(session: AsyncSession = Depends(db.get_async_session)) -> int:
        session.add(item(number=3))
        await session.commit()
        return len((await session.scalars(select(item))).all())

    @app.post("/run")
    async def add_by_run() -> int:
        def work(session: Session) -> int:
            session.add(item(number=4))
            session.flush()
            return session.query(item).count()

        return await db.run(work)

    with db.isolated():
        with TestClient(app) as client:
            assert [client.post(path).json() for path in ("/sync", "/dependency", "/async", "/run")] == [1, 3, 4, 5]
        with db():
            assert item.query.count() == 5


async def test_commits_of_async_scopes_are_rolled_back(db: SQLAlchemy) -> None:
    item = model(db)
    async with db.isolated():
        async with db():
            await item.anew(number=1)
            async with db.transaction():
                await item.anew(number=2)
        async with db():
            assert len(await item.aget_all()) == 2


def test_an_error_inside_ends_the_isolation(db: SQLAlchemy) -> None:
    with pytest.raises(KeyError), db.isolated():
        with db():
            model(db).new(number=1)
        raise KeyError
    with db.isolated(), pytest.raises(TransactionUsageError), db.isolated():
        pass


def test_several_databases_are_isolated_side_by_side(db: SQLAlchemy, memory_url: str) -> None:
    other = SQLAlchemy(memory_url)

    class Note(other.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)

    other.create_all()
    with db.isolated(), other.isolated(), db(), other():
        model(db).new(number=1)
        Note.new()
    with other():
        assert Note.query.count() == 0
    other.dispose()


@pytest.mark.backends("sqlite", "postgresql")
def test_tables_created_inside_are_gone_at_the_end(database_url: str) -> None:
    db = SQLAlchemy(database_url)

    class Item(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)

    with db.isolated():
        db.create_all()
        with db():
            Item.new()
            assert Item.query.count() == 1
    db.create_all()
    with db():
        assert Item.query.count() == 0
    db.dispose()


def numbers(db: SQLAlchemy) -> list[int]:
    with db():
        return sorted(row.number for row in model(db).query)


async def test_connections_of_the_engines_are_rolled_back(db: SQLAlchemy) -> None:
    item = model(db)
    async with db.isolated():
        with db.engine.begin() as connection:
            connection.execute(insert(item).values(number=1))
        with db.engine.connect() as connection:
            connection.execute(insert(item).values(number=2))
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(insert(item).values(number=3))
        async with db.async_engine.begin() as asynchronous:
            await asynchronous.execute(insert(item).values(number=4))
        with pytest.raises(KeyError):
            async with db.async_engine.begin() as asynchronous:
                await asynchronous.execute(insert(item).values(number=5))
                raise KeyError
        assert numbers(db) == [1, 3, 4]
        async with db() as _:
            session = db.async_session
            assert await (await session.connection()).scalar(select(func.count()).select_from(item)) == 3
            streamed = await session.stream_scalars(select(item.number).order_by(item.number))
            assert [number async for number in streamed] == [1, 3, 4]


def counting(db: SQLAlchemy) -> FastAPI:
    """Each request adds one to the only row, which it reads before."""
    item = model(db)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/sync")
    def add(session: Session = Depends(db.get_session)) -> int:
        row = session.scalars(select(item).with_for_update()).one()
        row.number += 1
        session.commit()
        return int(row.number)

    @app.post("/nested")
    def add_nested() -> int:
        with db.transaction():
            row = db.session.scalars(select(item).with_for_update()).one()
            with db():
                assert item.query.one().number == row.number
            row.number += 1
            db.session.flush()
            with db.transaction():
                return int(item.query.one().number)

    @app.post("/async")
    async def add_async(session: AsyncSession = Depends(db.get_async_session)) -> int:
        row = (await session.scalars(select(item).with_for_update())).one()
        before = row.number
        await asyncio.sleep(0.001)
        row.number = before + 1
        await session.commit()
        return int(row.number)

    return app


async def test_concurrent_requests_take_turns(db: SQLAlchemy) -> None:
    async with db.isolated():
        with db():
            model(db).new(number=0)
        transport = httpx2.ASGITransport(app=counting(db))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            ways = ["/sync", "/async", "/nested"] * 8
            answers = await asyncio.gather(*(client.post(way) for way in ways))
        assert sorted(answer.json() for answer in answers) == list(range(1, len(ways) + 1))
        assert numbers(db) == [len(ways)]


async def test_a_middleware_that_commits_at_the_end_of_each_request_gives_the_turn_on(db: SQLAlchemy) -> None:
    item = model(db)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db, commit_on_exit=True)

    @app.post("/sync/{number}")
    def add(number: int) -> None:
        db.session.add(item(number=number))
        db.session.flush()

    @app.post("/async/{number}")
    async def add_async(number: int) -> None:
        db.async_session.add(item(number=number))
        await db.async_session.flush()
        await asyncio.sleep(0)

    @app.post("/refused/{number}")
    def refuse(number: int) -> None:
        db.session.add(item(number=number))
        db.session.flush()
        raise HTTPException(418)

    async with db.isolated():
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            ways = ["sync", "async", "refused"] * 8
            answers = await asyncio.gather(*(client.post(f"/{way}/{at}") for at, way in enumerate(ways)))
        assert [answer.status_code for answer in answers] == [200, 200, 418] * 8
        assert numbers(db) == [at for at, way in enumerate(ways) if way != "refused"]


def test_concurrent_threads_take_turns(db: SQLAlchemy) -> None:
    item = model(db)

    def work(number: int) -> None:
        if number % 2:
            with db.engine.begin() as connection:
                connection.execute(insert(item).values(number=number))
        else:
            with db(commit_on_exit=True):
                item.new(number=number)
                if number % 4 == 0:
                    db.abort()

    with db.isolated():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(24)))
        assert numbers(db) == [number for number in range(24) if number % 4]


def test_what_an_inner_scope_commits_stays_when_the_outer_one_only_reads(db: SQLAlchemy) -> None:
    item = model(db)
    with db.isolated():
        with db():
            assert item.query.count() == 0
            with db(commit_on_exit=True):
                item.new(number=1)
            db.session.rollback()
            assert item.query.count() == 1
        assert numbers(db) == [1]


def test_an_inner_scope_whose_outer_one_is_rolled_back_is_told_so(db: SQLAlchemy) -> None:
    item = model(db)
    with db.isolated():
        with db():
            outer = db.session
            outer.add(item(number=1))
            outer.flush()
            with db():
                db.session.add(item(number=2))
                db.session.flush()
                outer.rollback()
                with pytest.raises(TransactionUsageError, match="End the inner session before the outer one"):
                    db.session.commit()
        assert numbers(db) == []


def test_a_turn_that_does_not_come_names_the_cure(db: SQLAlchemy) -> None:
    item = model(db)
    refused: list[BaseException] = []

    def write() -> None:
        try:
            item.new(number=2)
        except TransactionUsageError as error:
            refused.append(error)

    with db.override(pool_timeout=0.05), db.isolated(), db():
        db.session.add(item(number=1))
        db.session.flush()
        thread = threading.Thread(target=lambda: db.sync_context(write)())
        thread.start()
        thread.join()
        assert "let it commit or close before this one starts" in str(refused[0])


async def test_two_tasks_with_plain_sessions_are_told_at_once(db: SQLAlchemy) -> None:
    item = model(db)
    written, refused = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with db(commit_on_exit=True):
            db.session.add(item(number=1))
            db.session.flush()
            written.set()
            await refused.wait()

    async def second() -> None:
        await written.wait()
        async with db():
            with pytest.raises(TransactionUsageError, match="share one connection and write in turns"):
                item.new(number=2)
        refused.set()

    async with db.isolated():
        await asyncio.gather(first(), second())
        assert numbers(db) == [1]


def test_a_statement_that_fails_harms_nobody_else(db: SQLAlchemy) -> None:
    item = model(db)
    with db.isolated(), db():
        with pytest.raises(DBAPIError):
            db.session.execute(text("SELECT nothing FROM nowhere"))
        with db():
            item.new(number=1)
        with db(), pytest.raises(DBAPIError):
            db.session.execute(update(item).values(number=text("nothing")))
        with db():
            assert item.query.count() == 1


def test_savepoints_of_two_connections_are_kept_apart(db: SQLAlchemy) -> None:
    item = model(db)
    with db.isolated(), db():
        db.session.add(item(number=1))
        with db.session.begin_nested() as outer:
            db.session.add(item(number=2))
            db.session.flush()
            with db(commit_on_exit=True), db.transaction():
                item.new(number=3)
            outer.rollback()
        db.session.commit()
        assert [row.number for row in item.query] == [1]


def test_a_transaction_that_was_ended_underneath_is_told(database_url: str) -> None:
    db = SQLAlchemy(database_url)

    class Item(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)

    db.create_all()
    with pytest.raises(TransactionUsageError, match="has ended its transaction"), db.isolated():
        raw = db.engine.raw_connection()
        raw.commit()
        raw.close()
    with pytest.raises(KeyError) as caught, db.isolated():
        db.engine.raw_connection().commit()
        raise KeyError
    assert "has ended its transaction" in caught.value.__notes__[0]
    with db.isolated(), db():
        Item.new()
    db.dispose()


def test_the_database_is_ready_inside_as_it_is_outside(db: SQLAlchemy) -> None:
    app = FastAPI()
    app.include_router(health_router(db))
    with TestClient(app) as client, db.isolated():
        with db(commit_on_exit=True):
            model(db).new(number=1)
        assert client.get("/health/ready").json()["status"] == "ready"
        with db():
            assert model(db).query.count() == 1


def test_a_session_that_outlives_the_isolation_is_refused(db: SQLAlchemy) -> None:
    with db():
        with db.isolated():
            assert model(db).query.count() == 0
        with pytest.raises(TransactionUsageError, match="is over"):
            model(db).query.count()
    with db() as _:
        with db.isolated():
            db.session.add(model(db)(number=1))
            db.session.flush()
        with pytest.raises(TransactionUsageError, match="is over"):
            db.session.commit()
