"""A route that people write themselves waits no more often than it must, and async SQLite stays what it was."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from sqlalchemy.orm import Mapped, Session, mapped_column

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, SQLAlchemy
from tests.support.calls import get, suspensions

pytestmark = pytest.mark.anyio


class System:
    """A database of one table with a row, and an application of routes that read it."""

    def __init__(self, url: str) -> None:
        self.db = SQLAlchemy(url, sqlite={"busy_timeout": 0} if url.startswith("sqlite") else None)

        class Item(self.db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            number: Mapped[int]

        self.Item = Item
        self.table: sa.Table = Item.__table__
        self.db.create_all()
        with self.db(commit_on_exit=True):
            self.db.session.add(Item(id=1, number=1))
        self.app = FastAPI()
        self.wrapped = FastAPI()
        self.wrapped.add_middleware(DBSessionMiddleware, db=self.db)

        @self.app.get("/async")
        async def read_async(session: AsyncSession = Depends(self.db.get_async_session)) -> int:
            return (await session.get_one(Item, 1)).number

        @self.app.get("/threaded")
        def read(session: Session = Depends(self.db.get_session)) -> int:
            return session.get_one(Item, 1).number

        @self.wrapped.get("/threaded")
        def read_by_middleware() -> int:
            return self.db.session.get_one(Item, 1).number

    def count(self) -> int:
        with self.db():
            return int(self.db.session.execute(sa.select(sa.func.count()).select_from(self.table)).scalar_one())


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[System]:
    system = System(f"sqlite:///{tmp_path / 'items.db'}")
    yield system
    await system.db.adispose()


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[System]:
    url = f"sqlite:///{tmp_path / 'items.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    system = System(url)
    yield system
    await system.db.adispose()


async def test_an_async_read_of_sqlite_is_two_errands_of_its_thread(sqlite: System) -> None:
    """The statement with its BEGIN, and ROLLBACK; SQLAlchemy's own adapter needs seven."""
    for _ in range(2):
        assert (await get(sqlite.app, "/async")).status == 200
    assert await suspensions(get(sqlite.app, "/async")) <= 2


async def test_a_read_in_a_thread_ends_its_transaction_without_another_one(either: System) -> None:
    """Two switches to a worker thread, FastAPI's own for the endpoint and the serialization, of three waits each."""
    for app in (either.app, either.wrapped):
        for _ in range(2):
            assert (await get(app, "/threaded")).status == 200
        assert await suspensions(get(app, "/threaded")) <= 6


async def test_a_statement_tells_what_the_drivers_cursor_tells(sqlite: System) -> None:
    table = sqlite.table
    async with sqlite.db(commit_on_exit=True):
        session = sqlite.db.async_session
        added = await session.execute(sa.insert(table).values(number=7))
        assert added.inserted_primary_key == (2,)  # type: ignore[attr-defined]
        await session.execute(sa.insert(table), [{"number": 8}, {"number": 9}])
        changed = await session.execute(sa.update(table).where(table.c.number > 7).values(number=5))
        assert changed.rowcount == 2  # type: ignore[attr-defined]
        returned = await session.execute(sa.insert(table).values(number=3).returning(table.c.id, table.c.number))
        assert [tuple(row) for row in returned] == [(5, 3)]
        found = await session.execute(sa.text("SELECT number AS n FROM item ORDER BY id"))
        assert list(found.keys()) == ["n"]
        assert found.fetchone() == (1,)
        assert found.fetchmany(2) == [(7,), (5,)]
        assert found.scalars().all() == [5, 3]
        streamed = await session.stream(sa.select(table.c.id).order_by(table.c.id))
        assert [row.id async for row in streamed] == [1, 2, 3, 4, 5]
    assert sqlite.count() == 5


async def test_a_transaction_of_errands_is_one(sqlite: System) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        async with sqlite.db(commit_on_exit=True):
            await sqlite.db.async_session.execute(sa.insert(sqlite.table).values(id=2, number=2))
            await sqlite.db.async_session.execute(sa.insert(sqlite.table).values(id=1, number=1))
    assert sqlite.count() == 1


async def test_a_file_that_is_locked_is_an_error_of_the_database(sqlite: System) -> None:
    other = sqlite3.connect(str(sqlite.db.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            async with sqlite.db(commit_on_exit=True):
                await sqlite.db.async_session.execute(sa.insert(sqlite.table).values(number=2))
    finally:
        other.execute("ROLLBACK")
        other.close()
    async with sqlite.db(commit_on_exit=True):
        await sqlite.db.async_session.execute(sa.insert(sqlite.table).values(number=2))
    assert sqlite.count() == 2


async def test_a_statement_that_was_given_up_leaves_no_transaction(sqlite: System) -> None:
    async def work() -> Any:
        async with sqlite.db(commit_on_exit=True):
            await sqlite.db.async_session.execute(sa.insert(sqlite.table).values(number=2))
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
            await sqlite.db.async_session.execute(sa.text(endless))

    task = asyncio.create_task(work())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sqlite.count() == 1
    async with sqlite.db(commit_on_exit=True):
        await sqlite.db.async_session.execute(sa.insert(sqlite.table).values(number=3))
    assert sqlite.count() == 2
