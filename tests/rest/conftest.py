"""A shop on each database, through the synchronous and the asynchronous engine."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Header, HTTPException
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.engines import live_engines
from fastapi_sqlalchemy.observe.engine_events import EngineEvents, Listener
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient
from tests.support.databases import server_url, temporary_database
from tests.support.systems import running

CANARY = "canary-7f3a"
VARIANTS = [(name, mode) for name in ("sqlite", "postgresql", "mariadb") for mode in ("sync", "async")]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Shop:
    """The application under test: a client, its database and its models."""

    def __init__(self, url: str, mode: str) -> None:
        self.url = url
        self.variant = f"{url.partition(':')[0]} {mode}"
        self.use_async = mode == "async"
        self.db = SQLAlchemy(url)
        self.models = declare(self.db)
        self.app = FastAPI()
        self.add_routes()
        self.client = TestClient(self.app)

    def add_routes(self) -> None:
        common: dict[str, Any] = {"db": self.db, "use_async": self.use_async}
        models = self.models
        for router in (
            CRUDRouter(models["Author"], prefix="/authors", bulk=True, aggregates=True, **common),
            CRUDRouter(models["Book"], prefix="/books", bulk=True, aggregates=True, max_affected=50, **common),
            CRUDRouter(models["Tag"], prefix="/tags", **common),
            CRUDRouter(models["Pair"], prefix="/pairs", **common),
            CRUDRouter(models["Thing"], prefix="/things", **common),
            CRUDRouter(models["Counter"], prefix="/counters", require_if_match=True, **common),
            CRUDRouter(models["Note"], prefix="/notes", scope_query=owned_notes(models["Note"]), bulk=True, **common),
            CRUDRouter(models["Folder"], prefix="/folders", **common),
        ):
            self.app.include_router(router)

    def empty(self) -> None:
        with self.db.engine.begin() as connection:
            for table in reversed(self.db.metadata.sorted_tables):
                connection.execute(table.delete())

    def insert(self, model: str, *rows: dict[str, Any]) -> None:
        """Store rows behind the API's back."""
        with self.db.engine.begin() as connection:
            table = self.models[model].__table__
            connection.execute(sa.insert(table), list(rows))
            if self.url.startswith("postgresql") and isinstance(rows[0].get("id"), int):
                following = sa.text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), 1000000)")
                connection.execute(following)

    def empty_if_changed(self, method: str, response: Any) -> None:
        """Undo a write that was let through, so that the next request meets the same rows."""
        if method != "GET" and response.status_code < 300:
            self.empty()
            self.insert("Author", {"id": 1, "name": "Ann"})
            self.insert("Book", {"id": 1, "title": "t", "pages": 1})
            self.insert("Tag", {"id": 1, "name": "t"})

    def engines(self) -> list[Any]:
        """The engines of this database that live now."""
        return [engine for engine in live_engines() if engine.url.database == self.db.url.database]

    def statements(self) -> Statements:
        return Statements(self.db.url.database)


class Statements:
    """Records what the engines of one database execute, those that are built meanwhile included."""

    def __init__(self, database: str | None) -> None:
        self.database = database
        self.texts: list[str] = []
        self.parameters: list[Any] = []

    def _note(self, connection: Any, cursor: Any, text: str, parameters: Any, context: Any, many: bool) -> None:
        if not text.upper().startswith(("BEGIN", "COMMIT", "PRAGMA", "SET ", "ROLLBACK")):
            self.texts.append(text)
            self.parameters.append(parameters)

    def __enter__(self) -> Self:
        self.events = EngineEvents(self._listeners)
        return self

    def __exit__(self, *error: object) -> None:
        self.events.close()

    def _listeners(self, engine: sa.Engine) -> list[Listener]:
        return [("before_cursor_execute", self._note)] if engine.url.database == self.database else []


def declare(db: SQLAlchemy) -> dict[str, Any]:
    base: Any = db.Base
    labels = sa.Table(
        "label",
        db.metadata,
        sa.Column("book_id", sa.ForeignKey("book.id"), primary_key=True),
        sa.Column("tag_id", sa.ForeignKey("tag.id"), primary_key=True),
    )

    class Author(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(40), unique=True)
        born: Mapped[dt.date | None]
        hashed_password: Mapped[str | None] = mapped_column(sa.String(60))
        books: Mapped[list[Book]] = relationship(back_populates="author")

    class Book(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(sa.String(80))
        author_id: Mapped[int | None] = mapped_column(sa.ForeignKey("author.id"))
        price: Mapped[Decimal | None] = mapped_column(sa.Numeric(8, 2))
        pages: Mapped[int] = mapped_column(default=0)
        api_key: Mapped[str | None] = mapped_column(sa.String(40))
        author: Mapped[Author | None] = relationship(back_populates="books")
        tags: Mapped[list[Tag]] = relationship(secondary=labels, back_populates="books")
        __table_args__ = (sa.CheckConstraint("pages >= 0", name="pages_positive"),)

    class Tag(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20), unique=True)
        books: Mapped[list[Book]] = relationship(secondary=labels, back_populates="tags")

    class Pair(base):
        left: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
        right: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        value: Mapped[str | None] = mapped_column(sa.String(20))

    class Thing(base):
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
        flag: Mapped[bool | None]
        small: Mapped[int | None] = mapped_column(sa.SmallInteger)
        big: Mapped[int | None] = mapped_column(sa.BigInteger)
        ratio: Mapped[float | None] = mapped_column(sa.Double)
        amount: Mapped[Decimal | None] = mapped_column(sa.Numeric(12, 4))
        text: Mapped[str | None] = mapped_column(sa.Text)
        data: Mapped[bytes | None] = mapped_column(sa.LargeBinary(64))
        color: Mapped[Color | None]
        size: Mapped[str | None] = mapped_column(sa.Enum("s", "m", "l", name="size"))
        day: Mapped[dt.date | None]
        clock: Mapped[dt.time | None]
        at: Mapped[dt.datetime | None] = mapped_column(sa.DateTime)
        instant: Mapped[dt.datetime | None] = mapped_column(sa.DateTime(timezone=True))
        span: Mapped[dt.timedelta | None] = mapped_column(sa.Interval)
        token_count: Mapped[int | None]
        extra: Mapped[Any | None] = mapped_column(sa.JSON)

    class Counter(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[int]
        version: Mapped[int] = mapped_column(nullable=False)
        __mapper_args__ = {"version_id_col": version}

    class Folder(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(40))
        notes: Mapped[list[Note]] = relationship(back_populates="folder")

    class Note(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int]
        text: Mapped[str] = mapped_column(sa.String(80))
        slug: Mapped[str | None] = mapped_column(sa.String(40), unique=True)
        folder_id: Mapped[int | None] = mapped_column(sa.ForeignKey("folder.id"))
        folder: Mapped[Folder | None] = relationship(back_populates="notes")

    found: dict[str, Any] = {}
    for model in (Author, Book, Tag, Pair, Thing, Counter, Folder, Note):
        found[model.__name__] = model
    return found


def owned_notes(note: Any) -> Any:
    def current_user(x_user: int | None = Header(default=None)) -> int:
        if x_user is None:
            raise HTTPException(401, "Who are you?")
        return x_user

    def criteria(user: int = Depends(current_user)) -> Any:
        return note.owner_id == user

    return criteria


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A URL for each database that takes part."""
    path: Path = tmp_path_factory.mktemp("rest")
    with ExitStack() as stack:
        found = {"sqlite": f"sqlite:///{path}/shop.db"}
        for name in ("postgresql", "mariadb"):
            if server_url(name) is not None:
                found[name] = stack.enter_context(temporary_database(name))
        yield found


@pytest.fixture(scope="module", params=VARIANTS, ids=[f"{name}-{mode}" for name, mode in VARIANTS])
def running_shop(request: pytest.FixtureRequest, databases: dict[str, str]) -> Iterator[Shop]:
    name, mode = request.param
    if name not in databases:
        pytest.skip(f"no {name} server takes part")
    with running(Shop(databases[name], mode)) as shop:
        yield shop


@pytest.fixture
def shop(running_shop: Shop) -> Shop:
    """The shop with empty tables."""
    running_shop.empty()
    return running_shop


@pytest.fixture(autouse=True)
def pools_are_empty() -> Iterator[None]:
    """The check of all tests, without the collection of garbage: there are many short tests here."""
    yield
    busy = [repr(engine.url) for engine in live_engines() if getattr(engine.pool, "checkedout", int)()]
    assert not busy, f"connections left checked out: {busy}"
