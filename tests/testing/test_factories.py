"""Factories: rows that fit their model, saved through its database."""

from __future__ import annotations

import enum
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Computed,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastapi_sqlalchemy import ModelBase, SQLAlchemy
from fastapi_sqlalchemy.models.mixins import SoftDeleteMixin, TimestampMixin, UUIDKeyMixin, VersionMixin
from fastapi_sqlalchemy.models.types import UTCDateTime
from fastapi_sqlalchemy.testing.factories import ModelFactory
from tests.support.nursery import python

pytestmark = pytest.mark.anyio


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Base(ModelBase, DeclarativeBase):
    pass


class Author(TimestampMixin, SoftDeleteMixin, Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(12), unique=True)
    bio: Mapped[str | None] = mapped_column(Text)
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Shelf(Base):
    code: Mapped[str] = mapped_column(String(8), primary_key=True)


class Book(VersionMixin, Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    twice: Mapped[Decimal] = mapped_column(Numeric(12, 2), Computed("price * 2", persisted=True))
    colour: Mapped[Colour]
    bound: Mapped[bool]
    weight: Mapped[float]
    printed: Mapped[date]
    sold_at: Mapped[datetime] = mapped_column(UTCDateTime)
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    cover: Mapped[bytes] = mapped_column(LargeBinary)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(10), default="new")
    stock: Mapped[int] = mapped_column(server_default="3")
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")
    shelf_code: Mapped[str] = mapped_column(ForeignKey("shelf.code"))
    sequel_id: Mapped[int | None] = mapped_column(ForeignKey("book.id"))
    sequel: Mapped[Book | None] = relationship(remote_side="Book.id")
    __table_args__ = (
        UniqueConstraint("author_id", "number"),
        Index("by_number", "number", unique=True),
        CheckConstraint("stock > 0", name="stock"),
    )


class Token(UUIDKeyMixin, Base):
    owner_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    owner: Mapped[Author] = relationship()


class AuthorFactory(ModelFactory[Author]):
    pass


class BookFactory(ModelFactory[Book]):
    state = "used"


class TokenFactory(ModelFactory[Token]):
    pass


@pytest.fixture
def db(database_url: str) -> Iterator[SQLAlchemy]:
    db = SQLAlchemy(database_url, model_class=Base)
    db.create_all()
    yield db
    db.dispose()


def test_rows_fit_their_model_and_are_saved(db: SQLAlchemy) -> None:
    with db():
        book = BookFactory.create_sync()
        assert db.session.get(Book, book.id) is book
        assert not db.session.in_transaction() or not db.session.has_changes
    with db():
        saved = Book.get_or_404(book.id)
        assert (saved.state, saved.stock, saved.sequel) == ("used", 3, None)
        assert saved.twice == saved.price * 2
        assert isinstance(saved.colour, Colour)
        assert saved.author.email == book.author.email
        assert (saved.author.bio, saved.author.deleted_at, saved.author.books) == (None, None, [saved])
        assert Shelf.query.count() == 1


def test_unique_values_differ(db: SQLAlchemy) -> None:
    with db():
        books = BookFactory.create_batch_sync(40)
        assert len({book.number for book in books}) == len({book.author.email for book in books}) == 40
        author = AuthorFactory.create_sync()
        assert {book.author for book in BookFactory.create_batch_sync(3, author=author)} == {author}
        assert [book.author_id for book in BookFactory.create_batch_sync(2, author_id=author.id)] == [author.id] * 2
        assert Author.query.count() == 41


def test_what_is_given_is_used(db: SQLAlchemy) -> None:
    with db():
        author = AuthorFactory.create_sync(bio="x", books=BookFactory.batch(2, author=None))
        assert (author.bio, len(author.books)) == ("x", 2)


def test_without_a_scope_one_is_opened(db: SQLAlchemy) -> None:
    with db.isolated():
        token = TokenFactory.create_sync()
        assert isinstance(token.id, uuid.UUID)
        assert token.owner.created_at.tzinfo is UTC
        with db():
            assert Token.query.count() == 1


def test_a_scope_that_commits_is_left_to_commit(db: SQLAlchemy) -> None:
    with db(commit_on_exit=True):
        AuthorFactory.create_sync()
        db.abort()
    with db():
        assert Author.query.count() == 0


async def test_they_save_through_the_async_session_too(db: SQLAlchemy) -> None:
    async with db():
        book = await BookFactory.create_async()
        assert await db.async_session.get(Book, book.id) is book
        await BookFactory.create_batch_async(2)
    await TokenFactory.create_async()
    async with db():
        assert len(await Book.aget_all()) == 3
        assert len(await Token.aget_all()) == 1


def test_columns_that_may_be_null_are_filled_on_demand() -> None:
    class FullFactory(ModelFactory[Author]):
        __fill_nullable__ = True

    class DeclaredFactory(ModelFactory[Author]):
        bio = "declared"

    assert FullFactory.build().bio is not None
    assert DeclaredFactory.build().bio == "declared"
    assert AuthorFactory.build().bio is None


def test_without_polyfactory_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['polyfactory'] = None; import fastapi_sqlalchemy.testing.factories"
    done = subprocess.run([python(), "-c", code], capture_output=True, text=True)
    assert 'Install it with: pip install "fastapi-sqlalchemy[testing]"' in done.stderr
