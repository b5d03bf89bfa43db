"""``db.on_commit()``: after a real commit, in order, never after a rollback."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from fastapi import HTTPException
from sqlalchemy.orm import Session

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.exceptions import AsyncScopeRequiredError
from tests.support.client import TestClient
from tests.support.doors import DOORS, Door, count_rows, make_database


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def bench(sqlite_url: str) -> tuple[SQLAlchemy, Any]:
    db, Item = make_database(sqlite_url)
    db.create_all()
    return db, Item


def test_callbacks_run_in_order_after_the_commit_and_may_use_the_database(bench: Any, ran: list[str]) -> None:
    db, Item = bench
    with db(commit_on_exit=True):
        db.session.add(Item(name="a"))
        db.on_commit(lambda: ran.append("first"))
        db.on_commit(lambda: ran.append(f"second sees {count_rows(db, Item)}"))
        assert ran == []
    assert ran == ["first", "second sees 1"]


@pytest.mark.parametrize("commit", ["session.commit()", "with session.begin()", "save()", "db.transaction()"])
def test_every_way_to_commit_runs_them(bench: Any, ran: list[str], commit: str) -> None:
    db, Item = bench
    with db():
        if commit == "with session.begin()":
            with db.session.begin():
                db.session.add(Item(name="a"))
                db.on_commit(lambda: ran.append("done"))
        elif commit == "db.transaction()":
            with db.transaction():
                db.session.add(Item(name="a"))
                db.on_commit(lambda: ran.append("done"))
        else:
            db.on_commit(lambda: ran.append("done"))
            if commit == "save()":
                Item.new(name="a")
            else:
                db.session.add(Item(name="a"))
                db.session.commit()
        assert ran == ["done"]
        db.session.add(Item(name="b"))
        db.session.commit()
    assert ran == ["done"]


@pytest.mark.parametrize("commit", ["session.commit()", "async with session.begin()", "asave()", "db.transaction()"])
@pytest.mark.parametrize("function", ["plain", "async", "partial of async", "lambda of async"])
def test_every_async_way_to_commit_runs_plain_and_async_functions(
    bench: Any, ran: list[str], commit: str, function: str
) -> None:
    db, Item = bench

    async def later(word: str = "done") -> None:
        await asyncio.sleep(0)
        ran.append(word)

    callbacks: dict[str, Any] = {
        "plain": lambda: ran.append("done"),
        "async": later,
        "partial of async": functools.partial(later, "done"),
        "lambda of async": lambda: later("done"),
    }
    callback = callbacks[function]

    async def main() -> None:
        async with db():
            if commit == "async with session.begin()":
                async with db.async_session.begin():
                    db.async_session.add(Item(name="a"))
                    db.on_commit(callback)
            elif commit == "db.transaction()":
                async with db.transaction():
                    db.async_session.add(Item(name="a"))
                    db.on_commit(callback)
            else:
                db.on_commit(callback)
                if commit == "asave()":
                    await Item.anew(name="a")
                else:
                    db.async_session.add(Item(name="a"))
                    await db.async_session.commit()
            assert ran == ["done"]
        await db.adispose()

    asyncio.run(main())
    assert ran == ["done"]


@pytest.mark.parametrize("door", DOORS, ids=str)
@pytest.mark.parametrize("explicit", [False, True])
def test_plain_and_async_functions_run_before_the_response_of_every_door(
    sqlite_url: str, ran: list[str], door: Door, explicit: bool
) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=not explicit)
    app = door.app(db)

    async def later() -> None:
        ran.append("async")

    def work(session: Any) -> None:
        session.add(Item(name="a"))
        db.on_commit(lambda: ran.append("plain"))
        db.on_commit(later)
        if explicit:
            session.commit()

    door.route(app, db, "/", work)
    with TestClient(app) as client:
        assert client.post("/").status_code == 200
        assert ran == ["plain", "async"]


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_nothing_runs_when_the_request_fails(sqlite_url: str, ran: list[str], door: Door) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = door.app(db)

    def raises(session: Session) -> None:
        session.add(Item(name="a"))
        db.on_commit(lambda: ran.append("never"))
        raise HTTPException(400)

    def breaks(session: Session) -> None:
        session.add_all([Item(name="a"), Item(name="a")])
        db.on_commit(lambda: ran.append("never"))

    door.route(app, db, "/raises", raises)
    door.route(app, db, "/breaks", breaks)
    with TestClient(app) as client:
        assert client.post("/raises").status_code == 400
        assert client.post("/breaks").status_code == 409
    assert ran == []


def test_a_rollback_forgets_them(bench: Any, ran: list[str]) -> None:
    db, Item = bench
    with db():
        db.on_commit(lambda: ran.append("before the transaction"))
        db.session.rollback()
        db.session.add(Item(name="a"))
        db.on_commit(lambda: ran.append("in the transaction"))
        db.session.rollback()
        db.session.add(Item(name="b"))
        db.session.commit()
    with db():
        db.session.add(Item(name="c"))
        db.session.flush()
        db.on_commit(lambda: ran.append("never committed"))
    assert ran == []


def test_an_aborted_scope_forgets_them(bench: Any, ran: list[str]) -> None:
    db, Item = bench
    with db(commit_on_exit=True):
        db.session.add(Item(name="a"))
        db.on_commit(lambda: ran.append("never"))
        db.abort()
    assert ran == []


def test_a_savepoint_that_is_rolled_back_takes_its_own_and_those_of_inner_ones(bench: Any, ran: list[str]) -> None:
    db, Item = bench
    with db.transaction():
        db.on_commit(lambda: ran.append("outer"))
        with pytest.raises(KeyError), db.transaction():
            db.on_commit(lambda: ran.append("rolled back"))
            with db.transaction():
                db.session.add(Item(name="a"))
                db.on_commit(lambda: ran.append("released inside of it"))
            raise KeyError
        with db.transaction():
            db.session.add(Item(name="b"))
            db.on_commit(lambda: ran.append("released"))
        assert ran == []
    assert ran == ["outer", "released"]
    assert count_rows(db, Item) == 1


def test_a_function_that_fails_is_logged_and_the_rest_run(
    bench: Any, ran: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    db, Item = bench

    async def fails() -> None:
        raise ValueError("async")

    async def main() -> None:
        async with db(commit_on_exit=True):
            db.async_session.add(Item(name="a"))
            db.on_commit(lambda: 1 / 0)
            db.on_commit(fails)
            db.on_commit(lambda: ran.append("rest"))
        await db.adispose()

    asyncio.run(main())
    assert ran == ["rest"]
    assert count_rows(db, Item) == 1
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError, ValueError]


def test_a_clean_scope_without_a_statement_runs_them(bench: Any, ran: list[str]) -> None:
    db, _ = bench
    with db(commit_on_exit=True):
        db.on_commit(lambda: ran.append("clean"))
    with db(commit_on_exit=False):
        db.on_commit(lambda: ran.append("never"))
    assert ran == ["clean"]


def test_one_registered_first_follows_the_session_that_is_used(bench: Any, ran: list[str]) -> None:
    db, Item = bench

    async def main() -> None:
        async with db():
            db.on_commit(lambda: ran.append("async session"))
            db.async_session.add(Item(name="a"))
            await db.async_session.commit()
            assert ran == ["async session"]
        await db.adispose()

    asyncio.run(main())


def test_an_async_function_in_a_plain_with_is_refused(bench: Any) -> None:
    db, _ = bench

    async def later() -> None: ...

    with db(), pytest.raises(AsyncScopeRequiredError, match="async with db"):
        db.on_commit(later)


@pytest.mark.parametrize("use_async", [False, True])
def test_run_calls_them(bench: Any, ran: list[str], use_async: bool) -> None:
    db, Item = bench

    async def later() -> None:
        ran.append("async")

    def work(session: Session) -> None:
        session.add(Item(name=str(len(ran))))
        db.on_commit(lambda: ran.append("plain"))
        db.on_commit(later)

    async def main() -> None:
        await db.run(work, use_async=use_async)
        assert ran == ["plain", "async"]
        async with db():
            await db.run(work, use_async=use_async)
            assert ran == ["plain", "async"] * 2
        await db.adispose()

    asyncio.run(main())


def test_a_callback_may_commit_more_on_the_same_session(bench: Any, ran: list[str]) -> None:
    db, Item = bench

    def more() -> None:
        ran.append("ran")
        Item.new(name="b")

    with db():
        db.on_commit(more)
        Item.new(name="a")
    assert ran == ["ran"]
    assert count_rows(db, Item) == 2
