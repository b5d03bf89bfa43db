"""The tables and the rows that every contender serves."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, ForeignKey, String, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from benchmarks.urls import URL, async_url, sync_url

__all__ = ["ROWS", "URL", "Author", "AuthorOut", "Base", "Book", "User", "UserIn", "UserOut", "async_url", "sync_url"]

ROWS = 1_000
AUTHORS, BOOKS = 100, 500


class Base(DeclarativeBase):
    """The contenders' common base."""


class User(Base):
    """A row of six columns."""

    __tablename__ = "bench_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(100), unique=True)
    age: Mapped[int]
    city: Mapped[str] = mapped_column(String(50), index=True)
    is_active: Mapped[bool]


class Author(Base):
    """A parent."""

    __tablename__ = "bench_author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    books: Mapped[list[Book]] = relationship(order_by="Book.id")


class Book(Base):
    """A child."""

    __tablename__ = "bench_book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int] = mapped_column(ForeignKey("bench_author.id"), index=True)


class UserOut(BaseModel):
    """What the routes answer with."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    email: str
    age: int
    city: str
    is_active: bool


class UserIn(BaseModel):
    """What is posted."""

    name: str
    email: str
    age: int
    city: str
    is_active: bool = True


class BookOut(BaseModel):
    """A child of an answer."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    author_id: int


class AuthorOut(BaseModel):
    """A parent with its children."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    books: list[BookOut]


def fill(url: str, *, rows: int = ROWS) -> None:
    """Create the tables anew with their rows."""
    engine = create_engine(sync_url(url))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for start in range(1, rows + 1, 10_000):
            numbers = range(start, min(start + 10_000, rows + 1))
            connection.execute(User.__table__.insert(), [_user(number) for number in numbers])
        authors = [{"id": number, "name": f"Author {number}"} for number in range(1, AUTHORS + 1)]
        connection.execute(Author.__table__.insert(), authors)
        books = [
            {"id": number, "title": f"Book {number}", "author_id": 1 + number % AUTHORS}
            for number in range(1, BOOKS + 1)
        ]
        connection.execute(Book.__table__.insert(), books)
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT setval(pg_get_serial_sequence('bench_user', 'id'), 100000000)"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if engine.dialect.name in ("sqlite", "postgresql") else "SELECT 1"))
    engine.dispose()


def forget_new_rows(engine: Engine) -> None:
    """Delete what the creates of a round have left, so that the next one meets the same tables."""
    with engine.begin() as connection:
        connection.execute(User.__table__.delete().where(User.email.like("n%-%@example.com")))


def empty(url: str) -> None:
    """Drop the tables again."""
    engine = create_engine(sync_url(url))
    Base.metadata.drop_all(engine)
    engine.dispose()


def _user(number: int) -> dict[str, object]:
    return {
        "id": number,
        "name": f"User {number}",
        "email": f"user{number}@example.com",
        "age": 18 + number % 60,
        "city": ("Rome", "Oslo", "Lima", "Cairo")[number % 4],
        "is_active": number % 3 > 0,
    }
