"""A create by one statement answers as the ordinary one, and commits what it acknowledges and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.rest.test_fast_ways import listening, statements
from tests.support.calls import Answer, get

pytestmark = pytest.mark.anyio


class System:
    """An application with one table of many types."""

    def __init__(self, url: str) -> None:
        self.db = SQLAlchemy(url)

        class Part(self.db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            code: Mapped[str] = mapped_column(sa.String(20), unique=True)
            ratio: Mapped[float] = mapped_column(sa.Double, default=1.0)
            active: Mapped[bool] = mapped_column(default=True)
            price: Mapped[Any | None] = mapped_column(sa.Numeric(8, 2))
            day: Mapped[Any | None] = mapped_column(sa.Date)
            blob: Mapped[bytes | None]
            extra: Mapped[Any | None] = mapped_column(sa.JSON)
            parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("part.id"))
            __table_args__ = (sa.CheckConstraint("ratio >= 0", name="ratio_positive"),)

        self.Part = Part
        self.app = FastAPI()
        self.app.include_router(CRUDRouter(Part, db=self.db))
        self.db.create_all()

    async def post(self, body: Any) -> Answer:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return await get(self.app, "/part", "POST", raw, content_type="application/json")

    def count(self) -> int:
        with self.db():
            return int(
                self.db.session.execute(sa.select(sa.func.count()).select_from(self.Part.__table__)).scalar_one()
            )


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg", "mariadb"])
async def system(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[System]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'parts.db'}"
    elif request.param == "mariadb":
        url = request.getfixturevalue("mariadb_url")
    else:
        url = request.getfixturevalue("postgres_url").replace("postgresql://", f"postgresql+{request.param}://")
    found = System(url)
    yield found
    await found.db.adispose()


BODIES: list[Any] = [
    {"code": "plain"},
    {"code": "full", "ratio": 2, "active": False, "price": "12.50", "day": "2026-02-28", "blob": "AAEC", "extra": [1]},
    {"code": "nulls", "price": None, "day": None, "blob": None, "extra": None},
    {"code": "\u00e4 '; DROP \U0001f600", "extra": {"a": {"b": [None, 1.5, "x"]}}},
    {"code": "negative", "ratio": -1},
    {"code": "no parent", "parent_id": 99},
    {"code": "x" * 21},
    {"code": None},
    {"code": "big", "parent_id": 2**40},
    {"code": "unknown", "nothing": 1},
    b"{",
    b'{"code": "nul \\u0000"}',
    b'{"code": "lone \\ud800"}',
]


def told(answer: Answer) -> tuple[Any, ...]:
    """What a client learns, apart from the number that the row was given."""
    body = orjson.loads(answer.body)
    body.pop("id", None)
    return answer.status, sorted(answer.headers), body


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_the_answer_is_the_same(system: System, body: Any) -> None:
    short = await system.post(body)
    rows = system.count()
    assert rows == (1 if short.status == 201 else 0)
    with system.db.engine.begin() as connection:
        connection.execute(system.Part.__table__.delete())
    engine = system.db.engine if system.db.url.get_backend_name() == "sqlite" else system.db.async_engine.sync_engine
    with listening(engine, "before_cursor_execute"):
        assert told(await system.post(body)) == told(short)
    assert system.count() == rows


async def test_a_created_row_is_there_with_its_etag_and_place(system: System) -> None:
    created = await system.post({"code": "a"})
    found = await get(system.app, created.headers["location"])
    assert (found.status, found.body, found.headers["etag"]) == (200, created.body, created.headers["etag"])


async def test_the_second_of_two_equal_rows_is_a_conflict(system: System) -> None:
    answers = await asyncio.gather(*(system.post({"code": "same"}) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [201, *[409] * 7]
    assert system.count() == 1


async def test_many_at_once_are_all_there(system: System) -> None:
    answers = await asyncio.gather(*(system.post({"code": f"c{number}"}) for number in range(60)))
    assert {answer.status for answer in answers} == {201}
    assert system.count() == 60


async def test_it_goes_past_the_session_only_where_nobody_is_around(system: System) -> None:
    if system.db.url.get_backend_name() == "mysql":
        return
    await system.post({"code": "first"})
    with statements() as executed:
        assert (await system.post({"code": "second"})).status == 201
    assert executed == []
    with statements() as executed, listening(sa.orm.Session, "before_flush"):
        assert (await system.post({"code": "third"})).status == 201
    assert executed
    with statements() as executed, listening(system.Part, "before_insert"):
        assert (await system.post({"code": "fourth"})).status == 201
    assert executed


@pytest.mark.parametrize("fails", [False, True])
async def test_inside_of_the_middleware_the_request_commits_or_nobody(system: System, fails: bool) -> None:
    class Failing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def refusing(message: Any) -> None:
                if fails and message["type"] == "http.response.start":
                    message["status"] = 500
                await send(message)

            await self.app(scope, receive, refusing)

    app = FastAPI()
    app.add_middleware(Failing)
    app.add_middleware(DBSessionMiddleware, db=system.db, commit_on_exit=True)
    app.include_router(CRUDRouter(system.Part, db=system.db))
    await get(app, "/part", "POST", b'{"code":"x"}', content_type="application/json")
    assert system.count() == (0 if fails else 1)
