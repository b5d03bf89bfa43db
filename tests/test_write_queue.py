"""SQLite's write lock: whoever waits for it looks equally often, as long as the busy timeout says."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from fastapi import FastAPI
from sqlalchemy import event

from fastapi_sqlalchemy.engines import write_queue
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient
from tests.support.doors import count_rows, make_database


def another_writer(db: Any) -> closing[sqlite3.Connection]:
    """A connection of another program, which has begun to write."""
    connection = sqlite3.connect(str(db.url.database), isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return closing(connection)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_writer_looks_as_often_in_the_end_as_in_the_beginning(
    asynchronous: bool, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself looks more and more seldom, so that those who come later pass by who has waited."""
    db, Item = make_database(sqlite_url)
    db.create_all()
    pauses: list[float] = []

    async def write() -> None:
        async with db(commit_on_exit=True):
            db.async_session.add(Item(name="a"))

    with another_writer(db) as other:

        def pause(seconds: float) -> bool:
            pauses.append(seconds)
            if len(pauses) == 200:
                other.execute("COMMIT")
            return False

        monkeypatch.setattr(write_queue.line_of(str(db.url.database))._freed, "wait", pause)
        if asynchronous:
            asyncio.run(write())
        else:
            with db(commit_on_exit=True):
                db.session.add(Item(name="a"))
    assert pauses == [write_queue.PAUSE] * 200
    assert count_rows(db, Item) == 1


def test_a_writer_gives_up_after_the_busy_timeout_of_its_connection_and_leaves_that_as_it_is(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url)

    @event.listens_for(db.engine, "connect")
    def _impatient(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 20")

    db.create_all()
    with (
        another_writer(db),
        pytest.raises(sqlalchemy.exc.OperationalError, match="locked"),
        db(commit_on_exit=True),
    ):
        Item.new(name="a")
    with db(commit_on_exit=True):
        Item.new(name="b")
        assert db.session.scalar(sa.text("PRAGMA busy_timeout")) == 20
    assert count_rows(db, Item) == 1


@pytest.mark.parametrize("ending", ["commit", "rollback", "generated route"])
def test_a_writer_that_waits_for_one_of_its_process_is_told_of_its_end(
    ending: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "PAUSE", 60)  # more than the busy timeout: by itself it would be too late
    db, Item = make_database(sqlite_url)
    db.create_all()

    def write(name: str = "b") -> None:
        with db(commit_on_exit=True):
            db.session.add(Item(name=name))

    if ending == "generated route":
        app = FastAPI()
        app.include_router(CRUDRouter(Item, db=db, prefix="/items"))
        with TestClient(app) as client, ThreadPoolExecutor(8) as pool:
            written = [pool.submit(write, f"own {number}") for number in range(8)]
            answers = list(pool.map(lambda number: client.post("/items", json={"name": f"a{number}"}), range(40)))
            for each in written:
                each.result()
        assert {answer.status_code for answer in answers} == {201}
        assert count_rows(db, Item) == 48
        return
    with ThreadPoolExecutor(1) as pool:
        with db(commit_on_exit=ending == "commit"):
            db.session.add(Item(name="a"))
            db.session.flush()
            waiting = pool.submit(write)
            while not write_queue.line_of(str(db.url.database))._is_led:
                time.sleep(0.001)
        waiting.result()
    assert count_rows(db, Item) == (2 if ending == "commit" else 1)
