"""A library behind PostgREST's wire, on each database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.models.mixins import SoftDeleteMixin
from fastapi_sqlalchemy.rest import postgrest
from tests.rest.conftest import owned_notes
from tests.support.client import TestClient
from tests.support.postgrest import postgrest_client
from tests.support.systems import running

CANARY = "canary-7f3a"


class Library:
    """The application: its test client, its PostgREST client, its database and models."""

    is_changed = True
    """Whether its rows are other ones than those that `fill` stores."""

    def __init__(self, url: str) -> None:
        self.family = url.partition(":")[0]
        self.db = SQLAlchemy(url)
        self.models = declare(self.db)
        self.app = FastAPI()
        visible = [self.models[name] for name in ("Author", "Book", "Tag", "Note", "Pair", "Draft")]
        postgrest.mount(
            self.app,
            db=self.db,
            tables=visible,
            write=True,
            scope_query={self.models["Note"]: owned_notes(self.models["Note"])},
            max_page_size=100,
            max_affected=20,
        )
        self.client = TestClient(self.app)
        self.rest = postgrest_client(self.client)

    def get(self, path: str, **headers: str) -> Any:
        """GET below the prefix."""
        return self.client.get(f"/rest/v1/{path}", headers=headers)

    def rows(self, path: str, **headers: str) -> Any:
        """The JSON of a GET that has to succeed."""
        response = self.get(path, **headers)
        assert response.status_code in (200, 206), response.text
        return response.json()

    def refused(self, path: str, **headers: str) -> tuple[int, str]:
        """The status and the code of a GET that has to fail."""
        response = self.get(path, **headers)
        body = response.json()
        assert set(body) == {"code", "message", "details", "hint"}, body
        assert isinstance(body["message"], str)
        assert CANARY not in response.text
        assert response.headers["proxy-status"] == f"PostgREST; error={body['code']}"
        return response.status_code, body["code"]

    def empty(self) -> None:
        """Delete all rows."""
        with self.db.engine.begin() as connection:
            for table in reversed(self.db.metadata.sorted_tables):
                connection.execute(table.delete())

    def insert(self, model: str, *rows: dict[str, Any]) -> None:
        """Store rows behind the API's back."""
        table = self.models[model].__table__ if model in self.models else self.db.metadata.tables[model]
        with self.db.engine.begin() as connection:
            connection.execute(sa.insert(table), list(rows))
            if self.family == "postgresql" and isinstance(rows[0].get("id"), int):
                connection.execute(sa.text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), 1000)"))

    def fill(self) -> None:
        """Three authors, four books, two tags."""
        self.insert(
            "Author",
            {"id": 1, "name": "Ann", "born": dt.date(1970, 1, 31), "active": True, "hashed_password": CANARY},
            {"id": 2, "name": "Bob, Jr.", "born": None, "active": False, "hashed_password": CANARY},
            {"id": 3, "name": "Cara", "born": dt.date(1990, 5, 1), "active": None, "hashed_password": CANARY},
        )
        moment = dt.datetime.fromisoformat("2026-01-31T13:45:00")
        self.insert(
            "Book",
            {
                "id": 1, "title": "Alpha", "author_id": 1, "editor_id": 2, "price": Decimal("12.50"), "pages": 100,
                "printed": moment, "details": {"lang": "en", "parts": [{"n": 1}, {"n": 2}]},
            },
            {
                "id": 2, "title": "Beta (2nd)", "author_id": 1, "editor_id": None, "price": None, "pages": 200,
                "printed": None, "details": None,
            },
            {
                "id": 3, "title": "gamma*", "author_id": 2, "editor_id": 1, "price": Decimal("3.00"), "pages": 300,
                "printed": None, "details": {"lang": "it", "flag": True, "none": None},
            },
            {
                "id": 4, "title": "Delta", "author_id": None, "editor_id": None, "price": Decimal("7.25"), "pages": 50,
                "printed": None, "details": None,
            },
        )  # fmt: skip
        self.insert("Tag", {"id": 1, "name": "old"}, {"id": 2, "name": "new"})
        self.insert("book_tag", {"book_id": 1, "tag_id": 1}, {"book_id": 1, "tag_id": 2}, {"book_id": 3, "tag_id": 2})
        self.insert("Diary", {"id": 1, "author_id": 1, "text": CANARY})
        self.insert(
            "Note",
            {"id": 1, "owner_id": 1, "text": "mine", "author_id": 1},
            {"id": 2, "owner_id": 2, "text": "theirs", "author_id": 1},
        )
        self.insert("Pair", {"left": 1, "right": 1, "text": "a"}, {"left": 1, "right": 2, "text": "b"})


def declare(db: SQLAlchemy) -> dict[str, Any]:
    base: Any = db.Base
    labels = sa.Table(
        "book_tag",
        db.metadata,
        sa.Column("book_id", sa.ForeignKey("book.id"), primary_key=True),
        sa.Column("tag_id", sa.ForeignKey("tag.id"), primary_key=True),
    )

    class Author(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(40), unique=True)
        born: Mapped[dt.date | None]
        active: Mapped[bool | None]
        hashed_password: Mapped[str | None] = mapped_column(sa.String(60))
        books: Mapped[list[Book]] = relationship(back_populates="author", foreign_keys="Book.author_id")
        edited: Mapped[list[Book]] = relationship(back_populates="editor", foreign_keys="Book.editor_id")
        diaries: Mapped[list[Diary]] = relationship()
        notes: Mapped[list[Note]] = relationship(back_populates="author")

    class Book(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(sa.String(80))
        author_id: Mapped[int | None] = mapped_column(sa.ForeignKey("author.id"))
        editor_id: Mapped[int | None] = mapped_column(sa.ForeignKey("author.id"))
        price: Mapped[Decimal | None] = mapped_column(sa.Numeric(8, 2))
        pages: Mapped[int] = mapped_column(default=0)
        printed: Mapped[dt.datetime | None]
        details: Mapped[Any | None] = mapped_column(sa.JSON)
        api_key: Mapped[str | None] = mapped_column(sa.String(40))
        author: Mapped[Author | None] = relationship(back_populates="books", foreign_keys=[author_id])
        editor: Mapped[Author | None] = relationship(back_populates="edited", foreign_keys=[editor_id])
        tags: Mapped[list[Tag]] = relationship(secondary=labels, back_populates="books")
        __table_args__ = (sa.CheckConstraint("pages >= 0", name="pages_positive"),)

    class Tag(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20), unique=True)
        books: Mapped[list[Book]] = relationship(secondary=labels, back_populates="tags")

    class Diary(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))
        text: Mapped[str] = mapped_column(sa.String(80))

    class Note(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int]
        text: Mapped[str] = mapped_column(sa.String(80))
        slug: Mapped[str | None] = mapped_column(sa.String(40), unique=True)
        author_id: Mapped[int | None] = mapped_column(sa.ForeignKey("author.id"))
        author: Mapped[Author | None] = relationship(back_populates="notes")

    class Pair(base):
        left: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        right: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        text: Mapped[str | None] = mapped_column(sa.String(10))
        data: Mapped[bytes | None] = mapped_column(sa.LargeBinary(20))

    class Draft(SoftDeleteMixin, base):
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(80), default="empty")

    return {model.__name__: model for model in (Author, Book, Tag, Diary, Note, Pair, Draft)}


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def running_library(request: pytest.FixtureRequest, databases: dict[str, str]) -> Iterator[Library]:
    if request.param not in databases:
        pytest.skip(f"no {request.param} server takes part")
    with running(Library(databases[request.param])) as library:
        yield library


@pytest.fixture
def shelves(running_library: Library) -> Library:
    """The library with its rows, to read only."""
    if running_library.is_changed:
        running_library.empty()
        running_library.fill()
        running_library.is_changed = False
    return running_library


@pytest.fixture
def library(running_library: Library) -> Library:
    """The library with its rows, to change."""
    running_library.empty()
    running_library.fill()
    running_library.is_changed = True
    return running_library
