"""SQLite has one writer: a scope within a scope never waits for a lock that its own task holds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.exceptions import TransactionUsageError
from tests.support.client import TestClient
from tests.support.doors import count_rows, make_database

CURE = "would wait for itself"


def _database(url: str, **options: Any) -> tuple[SQLAlchemy, Any]:
    db, Item = make_database(url, sqlite={"busy_timeout": 30}, **options)
    db.create_all()
    return db, Item


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    return sqlite_url if request.param == "file" else "sqlite://"


def test_it_is_told_at_once_where_the_outer_one_has_written(url: str) -> None:
    db, Item = _database(url)
    with db(commit_on_exit=True):
        db.session.add(Item(name="outer"))
        db.session.flush()
        with db(), pytest.raises(TransactionUsageError, match=CURE):
            Item(name="inner").save()
        with db(commit_on_exit=True):
            assert Item.query.count() == 0
        Item.get(name="outer").update(name="still there")
    assert count_rows(db, Item) == 1


def test_it_writes_where_the_outer_one_has_only_read(url: str) -> None:
    db, Item = _database(url)
    with db(commit_on_exit=True):
        assert Item.query.count() == 0
        with db():
            Item(name="inner").save()
        with db.transaction():
            Item.new(name="of the outer one")
        Item.new(name="outer")
    assert count_rows(db, Item) == 3


def test_what_the_outer_one_writes_afterwards_is_rolled_back_with_it(url: str) -> None:
    db, Item = _database(url)
    with pytest.raises(KeyError), db(commit_on_exit=True):
        assert Item.query.count() == 0
        with db():
            Item(name="inner").save()
        Item.new(name="outer")
        raise KeyError
    assert count_rows(db, Item) == 1


def test_a_savepoint_of_the_outer_one_is_never_given_up(url: str) -> None:
    db, Item = _database(url)
    with db() as _, db.session.begin(), db.session.begin_nested():
        assert Item.query.count() == 0
        with db(), pytest.raises(TransactionUsageError, match=CURE):
            Item(name="inner").save()


def test_after_a_commit_or_rollback_nobody_is_in_the_way(url: str) -> None:
    db, Item = _database(url)
    with db():
        Item.new(name="committed")
        with db():
            Item.new(name="inner")
        db.session.add(Item(name="rolled back"))
        db.session.flush()
        db.session.rollback()
        with db():
            Item.new(name="inner too")
    assert count_rows(db, Item) == 3


def test_a_write_that_committed_by_itself_holds_nothing(url: str) -> None:
    db, Item = _database(url)
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.insert(Item).values(name="outer"))
        with db():
            Item.new(name="inner")
        connection.execute(sa.insert(Item).values(name="outer too"))
    assert count_rows(db, Item) == 3


def test_two_objects_of_one_file_are_one_database(sqlite_url: str) -> None:
    one, Item = _database(sqlite_url)
    two = SQLAlchemy(sqlite_url)
    with one(), two():
        one.session.add(Item(name="one"))
        one.session.flush()
        two.session.add(Item(name="two"))
        with pytest.raises(TransactionUsageError, match=CURE):
            two.session.flush()


def test_other_databases_are_nobody_s_concern() -> None:
    one, Item = _database("sqlite://")
    two, Other = _database("sqlite://")
    with one(commit_on_exit=True), two(commit_on_exit=True):
        Item.new(name="one")
        Other.new(name="two")
    assert (count_rows(one, Item), count_rows(two, Other)) == (1, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("inner", ["async", "sync"])
@pytest.mark.parametrize("outer", ["async", "sync"])
async def test_it_holds_in_a_task_for_both_kinds_of_session(url: str, outer: str, inner: str) -> None:
    db, Item = _database(url)

    async def write(name: str, kind: str) -> None:
        await Item.anew(name=name) if kind == "async" else Item.new(name=name)

    async def read(kind: str) -> None:
        await Item.aget_all() if kind == "async" else Item.get_all()

    async with db(commit_on_exit=True):
        await read(outer)
        async with db():
            if (outer, inner) == ("async", "sync"):  # nobody can await for a plain session
                with pytest.raises(TransactionUsageError, match=CURE):
                    await write("first", inner)
                db.session.rollback()
            else:
                await write("first", inner)
        await write("outer", outer)
        async with db():
            with pytest.raises(TransactionUsageError, match=CURE):
                await write("second", inner)
    assert count_rows(db, Item) == (1 if (outer, inner) == ("async", "sync") else 2)
    await db.adispose()


@pytest.mark.anyio
async def test_another_task_or_thread_waits_its_turn_as_ever(url: str) -> None:
    db, Item = _database(url)

    async def apart() -> None:
        async with db():
            await Item.anew(name="task")

    def in_thread() -> None:
        with db():
            Item.new(name="thread")

    async with db(commit_on_exit=True):
        await Item.anew(name="outer")
        tasks = [asyncio.create_task(apart()), asyncio.create_task(run_in_threadpool(in_thread))]
        await asyncio.sleep(0.05)
    await asyncio.gather(*tasks)
    assert count_rows(db, Item) == 3
    await db.adispose()


def test_a_post_that_has_only_read_may_write_in_a_scope_of_its_own(sqlite_url: str) -> None:
    db, Item = _database(sqlite_url, commit_on_exit=True)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/")
    def endpoint() -> None:
        assert Item.get(name="the user") is None
        with db():
            Item(name="audit").save()
        Item.new(name="outer")

    @app.post("/async")
    async def async_endpoint() -> None:
        assert await Item.aget(name="the user") is None
        async with db():
            await Item(name="audit 2").asave()
        await Item.anew(name="outer 2")

    with TestClient(app) as client:
        assert (client.post("/").status_code, client.post("/async").status_code) == (200, 200)
    assert count_rows(db, Item) == 4
