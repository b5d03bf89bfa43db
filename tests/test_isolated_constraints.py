"""Inside of ``db.isolated()`` a commit checks the deferred constraints, as it does outside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from tests.support.client import TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.backends("sqlite", "postgresql")]  # the others defer nothing


@pytest.fixture
def db(database_url: str) -> Iterator[SQLAlchemy]:
    db = SQLAlchemy(database_url, commit_on_exit=True)

    class Node(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        late_id: Mapped[int | None] = mapped_column(sa.ForeignKey("node.id", deferrable=True, initially="DEFERRED"))
        soon_id: Mapped[int | None] = mapped_column(sa.ForeignKey("node.id", deferrable=True, initially="IMMEDIATE"))

    db.create_all()
    yield db
    with db():
        assert Node.query.count() == 0
    db.dispose()


def model(db: SQLAlchemy) -> Any:
    return next(iter(db.Base.registry.mappers)).class_


def test_one_that_is_broken_at_the_commit_fails_it_and_what_was_written_is_gone(db: SQLAlchemy) -> None:
    Node = model(db)
    with db.isolated():
        with db():
            Node.new(id=1)
        with pytest.raises(IntegrityError), db():
            Node.new(id=2, late_id=99)
        with db():
            assert [node.id for node in Node.get_all()] == [1]
            Node.new(id=3, late_id=1)


def test_one_that_is_mended_before_the_commit_stays_deferred(db: SQLAlchemy) -> None:
    Node = model(db)
    with db.isolated():
        for first in (10, 20):
            with db():
                Node.new(id=first, late_id=first + 1)
                Node.new(id=first + 1)
        with db():
            assert Node.query.count() == 4


def test_one_that_is_immediate_stays_so(db: SQLAlchemy) -> None:
    Node = model(db)
    with db.isolated():
        with db():
            Node.new(id=1, late_id=1)
        with pytest.raises(IntegrityError), db():
            Node.new(id=2, soon_id=99)


def test_one_that_is_deferred_for_a_transaction_is_checked_at_its_end_and_immediate_in_the_next(db: SQLAlchemy) -> None:
    Node = model(db)
    defer = (
        "SET CONSTRAINTS ALL DEFERRED" if db.url.get_backend_name() == "postgresql" else "PRAGMA defer_foreign_keys=ON"
    )
    with db.isolated():
        with pytest.raises(IntegrityError), db():
            db.session.execute(sa.text(defer))
            Node.new(id=1, soon_id=99)
        with db():
            Node.new(id=1)
            db.session.execute(sa.text(defer))
            Node.new(id=2, soon_id=3)
            Node.new(id=3)
        with pytest.raises(IntegrityError), db():
            Node.new(id=4, soon_id=99)


def test_a_request_answers_it_as_it_does_outside(db: SQLAlchemy) -> None:
    Node = model(db)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/")
    def endpoint() -> None:
        Node.new(id=2, late_id=99)

    @app.post("/async")
    async def async_endpoint() -> None:
        await Node.anew(id=2, late_id=99)

    with db.isolated(), TestClient(app) as client:
        answers = [client.post(path) for path in ("/", "/async")]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
            (409, "foreign_key_violation")
        ] * 2


def test_rows_that_were_broken_before_are_nobody_s_fault(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url, commit_on_exit=True)

    class Node(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        late_id: Mapped[int | None] = mapped_column(sa.ForeignKey("node.id", deferrable=True, initially="DEFERRED"))

    db.create_all()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as raw:
        raw.execute("INSERT INTO node VALUES (1, 99)")
        raw.commit()
    with db.isolated():
        with db():
            Node.new(id=2)
        with pytest.raises(IntegrityError), db():
            Node.new(id=3, late_id=98)
