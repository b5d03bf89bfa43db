"""Tables are created at startup until migrations are adopted, by one process at a time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.exceptions import NotConfirmedError
from tests.support.client import TestClient
from tests.support.doors import make_database
from tests.support.nursery import python


def _tables(db: SQLAlchemy) -> set[str]:
    return set(sa.inspect(db.engine).get_table_names())


def _app(db: SQLAlchemy, by: str, **options: Any) -> FastAPI:
    if by == "lifespan":
        return FastAPI(lifespan=db.lifespan)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db, **options)
    return app


@pytest.mark.parametrize("by", ["middleware", "lifespan"])
def test_what_is_missing_is_created_at_startup_and_what_is_there_is_kept(database_url: str, by: str) -> None:
    db, Item = make_database(database_url)
    db.create_all()
    with db():
        Item.new(name="kept")

    class Other(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    with TestClient(_app(db, by)):
        assert _tables(db) == {"item", "other"}
    with db():
        assert Item.get(1).name == "kept"


@pytest.mark.parametrize("by", ["middleware", "lifespan"])
def test_a_database_under_migrations_is_never_altered(database_url: str, by: str) -> None:
    db, _ = make_database(database_url)
    with db.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    with TestClient(_app(db, by)):
        assert _tables(db) == {"alembic_version"}


def test_it_can_be_turned_off(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url)
    with TestClient(_app(db, "middleware", create_tables=False)):
        assert _tables(db) == set()


def test_only_the_tables_of_the_databases_of_the_middleware_are_created(tmp_path: Any) -> None:
    (one, _), (two, _) = (make_database(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "two"))
    with TestClient(_app(one, "middleware")):
        assert (_tables(one), _tables(two)) == ({"item"}, set())


def test_create_all_and_drop_all(database_url: str) -> None:
    db, _ = make_database(database_url)
    db.create_all()
    db.create_all()
    assert _tables(db) == {"item"}
    with pytest.raises(NotConfirmedError, match=r"drop_all\(confirmed=True\)"):
        db.drop_all()
    assert _tables(db) == {"item"}
    db.drop_all(confirmed=True)
    db.drop_all(confirmed=True)
    assert _tables(db) == set()


def test_the_async_twins_do_the_same(database_url: str) -> None:
    db, _ = make_database(database_url)

    async def main() -> None:
        await db.acreate_all()
        await db.acreate_all()
        assert _tables(db) == {"item"}
        with pytest.raises(NotConfirmedError):
            await db.adrop_all()
        await db.adrop_all(confirmed=True)
        assert _tables(db) == set()
        await db.adispose()

    asyncio.run(main())


WORKERS = """
import multiprocessing, sys
import sqlalchemy as sa
from fastapi import FastAPI
from tests.support.client import TestClient
from sqlalchemy.orm import mapped_column
from fastapi_sqlalchemy import SQLAlchemy

def work(all_here):
    db = SQLAlchemy(sys.argv[1])
    for number in range(15):
        type(f"Table{number}", (db.Base,), {"id": mapped_column(sa.Integer, primary_key=True), "__module__": __name__})
    all_here.wait(60)
    with TestClient(FastAPI(lifespan=db.lifespan)):
        assert len(sa.inspect(db.engine).get_table_names()) == 15
    db.dispose()

fork = multiprocessing.get_context("fork")
all_here = fork.Barrier(4)
workers = [fork.Process(target=work, args=[all_here]) for _ in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print([worker.exitcode for worker in workers])
"""


def test_many_workers_that_start_at_once_do_not_race(database_url: str) -> None:
    done = subprocess.run(
        [python(), "-c", WORKERS, database_url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 0, 0, 0]\n", "")


def test_a_database_with_an_async_engine_only_gets_its_tables(sqlite_url: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))
    db, Item = make_database(None, async_custom_engine=engine)  # type: ignore[arg-type]
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/")
    async def endpoint() -> int:
        return len(await Item.aget_all())

    @app.get("/dispose")
    async def dispose() -> None:
        await engine.dispose()

    with TestClient(app) as client:
        assert client.get("/").json() == 0
        client.get("/dispose")
