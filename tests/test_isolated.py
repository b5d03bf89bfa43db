"""``db.isolated()``: whatever the code under test commits is gone at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, Session, SQLAlchemy, TransactionUsageError

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
