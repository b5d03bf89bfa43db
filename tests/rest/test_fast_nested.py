"""A list with what belongs to its rows is one statement of PostgreSQL where that answers byte for byte the same."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.rest.test_fast_ways import listening
from tests.support.calls import Answer, get

pytestmark = pytest.mark.anyio

TEXTS = [
    "",
    "plain",
    "\"quotes\" \\ back / slash 'single' %s %(x)s :name $1 ? {brace} [bracket],",
    "</script> & <b>",
    "".join(map(chr, range(1, 160))),
    "\x7f \x80 \x9f \xa0 \xad \u0600 \u200b \u2028 \u2029 \ufeff \ufffd \uffff",
    "\u00e4 e\u0301 \u4e2d \U0001f600 \U0010ffff",
    "long " * 2000,
    " \t\n\r\x0b\x0c\b ",
    "null",
]
INTEGERS: list[int | None] = [0, -1, 2**31 - 1, -(2**31), None]
BIGS: list[int | None] = [2**63 - 1, -(2**63), 2**53 + 1, None, 0]
NESTED = [
    "/parent?include=children",
    "/parent?include=children&limit=2",
    "/parent?include=children&limit=2&count=exact&sort=-name",
    "/parent?include=children,tags",
    "/parent?include=tags&name__startswith=p",
    "/parent?include=children&name=nobody",
    "/parent?include=downwards&sort=id",
    "/node?include=nodes",
]
APART = [
    "/parent?include=children&offset=1",
    "/parent?include=dated",
    "/parent?include=children,dated",
    "/parent?include=unindexed",
    "/parent?include=unordered",
    "/child?include=parent",
    "/parent?include=children&sort=born.nullsfirst&limit=1",
]


class Family:
    """Parents with what belongs to them, by CRUDRouter."""

    def __init__(self, url: str) -> None:
        self.db = SQLAlchemy(url)
        self.asked: list[str] = []
        base: Any = self.db.Base
        tagged = sa.Table(
            "tagged",
            self.db.metadata,
            sa.Column("parent_id", sa.Integer, sa.ForeignKey("parent.id"), primary_key=True),
            sa.Column("tag_id", sa.Integer, sa.ForeignKey("tag.id"), primary_key=True),
        )

        class Parent(base):
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]
            born: Mapped[dt.date | None]
            children: Mapped[list[Child]] = relationship(back_populates="parent")
            downwards: Mapped[list[Child]] = relationship(
                order_by=lambda: (Child.small.desc().nulls_last(), Child.id.desc()), viewonly=True
            )
            unordered: Mapped[list[Child]] = relationship(order_by=lambda: Child.small, viewonly=True)
            dated: Mapped[list[Dated]] = relationship()
            unindexed: Mapped[list[Unindexed]] = relationship()
            tags: Mapped[list[Tag]] = relationship(secondary=tagged, order_by=lambda: Tag.id)

        class Child(base):
            id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
            parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("parent.id"), index=True)
            text: Mapped[str | None] = mapped_column(sa.Text)
            short: Mapped[str | None] = mapped_column(sa.String(20000))
            number: Mapped[int | None]
            big: Mapped[int | None] = mapped_column(sa.BigInteger)
            small: Mapped[int | None] = mapped_column(sa.SmallInteger)
            flag: Mapped[bool | None]
            other: Mapped[uuid.UUID | None]
            parent: Mapped[Parent | None] = relationship(back_populates="children")

        class Dated(base):
            id: Mapped[int] = mapped_column(primary_key=True)
            parent_id: Mapped[int] = mapped_column(sa.ForeignKey("parent.id"), index=True)
            at: Mapped[dt.datetime]
            price: Mapped[Decimal]
            ratio: Mapped[float]
            extra: Mapped[dict[str, Any]] = mapped_column(sa.JSON)

        class Unindexed(base):
            id: Mapped[int] = mapped_column(primary_key=True)
            parent_id: Mapped[int] = mapped_column(sa.ForeignKey("parent.id"))

        class Tag(base):
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

        class Node(base):
            id: Mapped[int] = mapped_column(primary_key=True)
            node_id: Mapped[int | None] = mapped_column(sa.ForeignKey("node.id"), index=True)
            nodes: Mapped[list[Node]] = relationship(lambda: Node)

        self.models: dict[str, Any] = {each.__name__: each for each in (Parent, Child, Dated, Unindexed, Tag, Node)}
        self.app = FastAPI()
        for each in (Parent, Child, Node):
            self.app.include_router(CRUDRouter(each, db=self.db))
        self.db.create_all()
        with self.db(commit_on_exit=True):
            self._fill(tagged)
        self.db.dispose()

    def _fill(self, tagged: sa.Table) -> None:
        def insert(name: str, rows: list[dict[str, Any]]) -> None:
            self.db.session.execute(sa.insert(self.models[name]), rows)

        insert(
            "Parent", [{"id": n, "name": f"p{n}", "born": dt.date(2000, 1, n) if n % 2 else None} for n in (1, 2, 3)]
        )
        children = [
            {
                "id": uuid.UUID(int=2**128 - 1 - number),
                "parent_id": (1, 2, None)[number % 3],
                "text": text,
                "short": text[:20000],
                "number": INTEGERS[number % 5],
                "big": BIGS[number % 5],
                "small": (None, 32767, -32768)[number % 3],
                "flag": (True, None, False)[number % 3],
                "other": uuid.UUID(int=number) if number % 2 else None,
            }
            for number, text in enumerate([*TEXTS, *TEXTS])
        ]
        children += [{**children[0], "id": uuid.UUID(int=n), "parent_id": 2, "text": None} for n in range(120)]
        insert("Child", children)
        moment = dt.datetime.fromisoformat("2026-02-28T12:00:00.5")
        numbers = {"price": Decimal("1.50"), "ratio": 1e20, "extra": {"b": 1, "a": [None]}}
        insert("Dated", [{"parent_id": 1, "at": moment, **numbers}])
        insert("Unindexed", [{"parent_id": 1}, {"parent_id": 3}])
        insert("Tag", [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}])
        self.db.session.execute(sa.insert(tagged), [{"parent_id": 1, "tag_id": 2}, {"parent_id": 1, "tag_id": 1}])
        insert("Node", [{"id": n, "node_id": n // 2 or None} for n in range(1, 8)])

    def note(self, record: Any) -> None:
        self.asked.append(record.query)

    async def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        found: Answer = await get(self.app, path)
        return found.status, found.headers, found.body

    async def statements(self, path: str) -> int:
        """How many statements a request makes that was made before."""
        for _ in range(3):
            self.asked.clear()
            await self.answer(path)
            for _ in range(3):  # asyncpg tells its loggers in the next turns of the event loop
                await asyncio.sleep(0)
        return len(self.asked)

    async def assert_same(self, path: str) -> None:
        """The first answer, the second that finds all prepared, and that of the ordinary path are the same."""
        first, second, third = await self.answer(path), await self.answer(path), await self.answer(path)
        with listening(self.db.async_engine.sync_engine, "before_cursor_execute"):
            ordinary = await self.answer(path)
        assert ordinary[0] == 200
        assert first == second == third == ordinary


@pytest.fixture
async def family(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[Family]:
    driver = getattr(request, "param", "asyncpg")
    family = Family(postgres_url.replace("postgresql://", f"postgresql+{driver}://"))
    if driver == "asyncpg":

        @event.listens_for(family.db.async_engine.sync_engine, "connect")
        def _watch(connection: Any, _record: Any) -> None:
            connection.driver_connection.add_query_logger(family.note)

    yield family
    await family.db.adispose()


@pytest.mark.parametrize("family", ["asyncpg", "psycopg"], indirect=True)
async def test_the_answers_are_those_of_the_ordinary_path(family: Family) -> None:
    for path in (*NESTED, *APART):
        await family.assert_same(path)


async def test_a_page_with_what_belongs_to_its_rows_is_one_statement(family: Family) -> None:
    for path in NESTED:
        assert await family.statements(path) == (2 if "count" in path else 1), path


async def test_what_postgresql_writes_otherwise_is_read_by_a_statement_of_its_own(family: Family) -> None:
    for path in APART:
        assert await family.statements(path) > 1, path


async def test_every_page_is_the_same(family: Family) -> None:
    path: str | None = "/parent?include=children&limit=1"
    pages = 0
    while path is not None:
        await family.assert_same(path)
        link = (await family.answer(path))[1].get("link", "")
        following = [part for part in link.split(", ") if 'rel="next"' in part]
        path = following[0].partition("<")[2].partition(">")[0] if following else None
        pages += 1
    assert pages == 3
