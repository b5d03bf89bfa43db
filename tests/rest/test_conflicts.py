"""A change that collides with another transaction is tried again; what still collides is a 409 with Retry-After."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter


class Rival:
    """A hook whose transaction loses against another one, ``losses`` times."""

    def __init__(self, url: str, table: Any) -> None:
        self.engine = sa.create_engine(url)
        self.table = table
        self.losses = 1
        self.calls = 0

    def before_create(self, session: Any, values: Any) -> None:
        self.calls += 1
        session.execute(sa.select(self.table.c.value)).all()
        raised = sa.update(self.table).values(value=self.table.c.value + 1)
        if self.calls <= self.losses:
            with self.engine.begin() as connection:
                connection.execute(raised)
        session.execute(raised)


@pytest.fixture(params=["sync", "async"])
def application(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Any]:
    # PostgreSQL manual, "Repeatable Read Isolation Level": an update of a row that changed since the snapshot fails.
    options = {"isolation_level": "REPEATABLE READ"}
    db = SQLAlchemy(postgres_url, engine_args=options, async_engine_args=options)

    class Tally(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[int]

    class Entry(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20))

    db.create_all()
    with db(commit_on_exit=True):
        db.session.add(Tally(id=1, value=0))
    rival = Rival(postgres_url, Tally.__table__)
    app = FastAPI()
    app.include_router(CRUDRouter(Entry, db=db, prefix="/entries", hooks=rival, use_async=request.param == "async"))
    yield app, db, rival
    rival.engine.dispose()
    db.dispose()


@pytest.mark.parametrize("commit_on_exit", [None, False, True])
def test_a_change_that_loses_once_is_made_all_the_same(application: Any, commit_on_exit: bool | None) -> None:
    app, db, rival = application
    if commit_on_exit is not None:
        app.add_middleware(DBSessionMiddleware, db=db, commit_on_exit=commit_on_exit)
    with TestClient(app) as client:
        assert client.post("/entries", json={"name": "a"}).status_code == 201
        assert [row["name"] for row in client.get("/entries").json()] == ["a"]
        assert client.portal is not None
        client.portal.call(db.adispose)
    with rival.engine.connect() as connection:
        assert connection.scalar(sa.select(rival.table.c.value)) == 2
    assert rival.calls == 2


def test_a_change_that_always_loses_is_a_conflict_after_three_repetitions(application: Any) -> None:
    app, db, rival = application
    rival.losses = 100
    with TestClient(app) as client:
        answer = client.post("/entries", json={"name": "a"})
        assert answer.status_code == 409
        assert answer.json()["code"] == "conflict"
        assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/entries").json() == []
        assert client.portal is not None
        client.portal.call(db.adispose)
    assert rival.calls == 4
