"""``db.override(url)``: every door leads to another database, until the block ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi import Depends, FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column
from typer.testing import CliRunner

from fastapi_sqlalchemy import (
    AsyncSession,
    ConfigurationError,
    DBSessionMiddleware,
    Session,
    SQLAlchemy,
    TransactionUsageError,
)
from fastapi_sqlalchemy import db as module_level
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient

pytestmark = pytest.mark.anyio


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SQLAlchemy]:
    """A database that nobody may touch: its file does not exist until it is connected to."""
    db = SQLAlchemy(f"sqlite:///{tmp_path / 'real.db'}")

    class Item(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int]

    yield db
    assert db.url.database == str(tmp_path / "real.db")
    db.dispose()


def model(db: SQLAlchemy) -> Any:
    return next(iter(db.Base.registry.mappers)).class_


def application(db: SQLAlchemy) -> FastAPI:
    item = model(db)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    app.include_router(CRUDRouter(item, db=db, prefix="/items"))

    @app.post("/session")
    def add() -> int:
        item.new(number=1)
        return int(item.query.count())

    @app.post("/sync")
    def add_by_dependency(session: Session = Depends(db.get_session)) -> int:
        session.add(item(number=2))
        session.commit()
        return session.query(item).count()

    @app.post("/async")
    async def add_async(session: AsyncSession = Depends(db.get_async_session)) -> int:
        session.add(item(number=3))
        await session.commit()
        return len((await session.scalars(select(item))).all())

    return app


def test_every_door_leads_to_the_other_database(db: SQLAlchemy, database_url: str, tmp_path: Path) -> None:
    item, app, commands = model(db), application(db), typer.Typer()

    @commands.command()
    def count() -> None:
        with db():
            typer.echo(item.query.count())

    with db.override(database_url) as same:
        assert same is db
        db.create_all()
        with db(commit_on_exit=True):
            item.new(number=0)
        with TestClient(app) as client:
            assert [client.post(f"/{way}").json() for way in ("session", "sync", "async")] == [2, 3, 4]
            assert client.post("/items", json={"number": 4}).status_code == 201
            assert len(client.get("/items").json()) == 5
        assert CliRunner().invoke(commands).output == "5\n"
        with db(), db.engine.connect() as connection:
            assert len(connection.execute(select(item)).all()) == 5
    assert not (tmp_path / "real.db").exists()


async def test_it_is_for_async_with_too_and_in_all_threads(db: SQLAlchemy, database_url: str, tmp_path: Path) -> None:
    item = model(db)
    async with db.override(database_url):
        await db.acreate_all()
        async with db():
            await item.anew(number=1)
        names: list[str | None] = []
        thread = threading.Thread(target=lambda: names.append(db.url.database))
        thread.start()
        thread.join()
        assert names == [db.url.database]
    assert not (tmp_path / "real.db").exists()


async def test_a_plain_with_leaves_no_async_connection_open_behind(db: SQLAlchemy, sqlite_url: str) -> None:
    with db.override(sqlite_url):
        await db.acreate_all()
        async with db():
            await model(db).anew(number=1)


def test_blocks_are_nested_and_restored(db: SQLAlchemy, tmp_path: Path) -> None:
    first, second = (f"sqlite:///{tmp_path / name}" for name in ("first.db", "second.db"))
    with db.override(first):
        db.create_all()
        with db():
            model(db).new(number=1)
        with pytest.raises(KeyError), db.override(second):
            db.create_all()
            with db():
                assert model(db).query.count() == 0
            raise KeyError
        with db():
            assert model(db).query.count() == 1
        engine = db.engine
    assert db.engine is not engine


def test_options_count_in_the_block_alone(db: SQLAlchemy) -> None:
    with db.override(commit_on_exit=True, statement_timeout=3):
        assert db.commit_on_exit
        assert db.source.config.statement_timeout == 3
        with db.override("sqlite://"):
            assert not db.commit_on_exit
    assert not db.commit_on_exit
    assert db.source.config.statement_timeout == 30
    with pytest.raises(ConfigurationError), db.override("sqlite://", pooler="unknown"):
        pass
    with pytest.raises(TypeError, match="unknown"), db.override("sqlite://", unknown=1):  # type: ignore[call-arg]
        pass


def test_what_belongs_to_the_former_url_stays_behind() -> None:
    db = SQLAlchemy("postgresql://nobody@127.0.0.1:1/x", engine_args={"connect_args": {"application_name": "x"}})
    with db.override("sqlite://"):
        db.create_all()
        with db():
            pass


def test_an_open_scope_is_refused_on_the_way_in_and_out(db: SQLAlchemy) -> None:
    with db(), pytest.raises(TransactionUsageError, match="A scope of this database is open here"):
        db.override("sqlite://").__enter__()
    scope = db()
    with pytest.raises(TransactionUsageError, match="still open at its end"), db.override("sqlite://"):
        scope.__enter__()
    scope.__exit__(None, None, None)


def test_a_block_can_be_isolated(db: SQLAlchemy, sqlite_url: str) -> None:
    with db.override(sqlite_url):
        db.create_all()
        with db.isolated(), db():
            model(db).new(number=1)
        with db():
            assert model(db).query.count() == 0


def test_an_application_of_the_older_api_is_led_there_too(tmp_path: Path, sqlite_url: str) -> None:
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db_url=f"sqlite:///{tmp_path / 'real.db'}", create_tables=False)

    @app.get("/")
    def url() -> str:
        return str(module_level.session.connection().engine.url.database)

    with TestClient(app) as client, module_level.override(sqlite_url):
        assert client.get("/").json() == sqlite_url.removeprefix("sqlite:///")
    assert not (tmp_path / "real.db").exists()
