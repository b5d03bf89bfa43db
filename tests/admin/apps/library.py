"""A library with an admin: every kind of column, relations, a composite key, a secret, a table without a key."""

from __future__ import annotations

import datetime as dt
import enum
import os
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import Session, SQLAlchemy
from fastapi_sqlalchemy.admin import Accounts, Admin
from tests.admin.hostile import HOSTILE

CANARY = "canary-9f27c1"
NAME, PASSWORD = "ada", "correct horse battery"


class Kind(enum.Enum):
    NOVEL = "novel"
    POEMS = "poems"


class Library:
    """One database with its models; the tests make many."""

    def __init__(self, url: str, **options: Any) -> None:
        db = self.db = SQLAlchemy(url, **options)

        class Author(db.Base):
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(sa.String(200))
            born: Mapped[dt.date | None]

        class Book(db.Base):
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str] = mapped_column(sa.String(100))
            author_id: Mapped[int] = mapped_column(sa.ForeignKey(Author.id))
            published: Mapped[dt.date | None]
            price: Mapped[Decimal] = mapped_column(sa.Numeric(8, 2), default=Decimal("0.00"))
            available: Mapped[bool] = mapped_column(default=True)
            kind: Mapped[Kind] = mapped_column(default=Kind.NOVEL)
            notes: Mapped[str | None] = mapped_column(sa.Text)
            extra: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
            added: Mapped[dt.datetime | None]
            author: Mapped[Author] = relationship()

        class Reader(db.Base):
            id: Mapped[int] = mapped_column(primary_key=True)
            first_name: Mapped[str] = mapped_column(sa.String(50))
            last_name: Mapped[str] = mapped_column(sa.String(50))
            email: Mapped[str] = mapped_column(sa.String(100), unique=True)
            hashed_password: Mapped[str] = mapped_column(sa.String(100), default=CANARY)

        class Loan(db.Base):
            book_id: Mapped[int] = mapped_column(sa.ForeignKey(Book.id), primary_key=True)
            reader_id: Mapped[int] = mapped_column(sa.ForeignKey(Reader.id), primary_key=True)
            due: Mapped[dt.date]
            note: Mapped[str | None] = mapped_column(sa.String(200))
            book: Mapped[Book] = relationship()
            reader: Mapped[Reader] = relationship()

        class Note(db.Base):
            id: Mapped[int] = mapped_column(primary_key=True)
            text: Mapped[str] = mapped_column(sa.String(200))

        sa.Table("visit", db.metadata, sa.Column("page", sa.String(50)), sa.Column("times", sa.Integer))
        self.Author, self.Book, self.Reader, self.Loan, self.Note = Author, Book, Reader, Loan, Note

    def fill(self, *, books: int = 60, hostile: bool = False) -> None:
        """Make the tables and their rows."""
        self.db.create_all()
        with self.db(commit_on_exit=True):
            self._fill(self.db.session, books, HOSTILE if hostile else ["A plain note"])

    def _fill(self, session: Session, books: int, notes: list[str]) -> None:
        session.add_all(self.Author(name=f"Author {number}", born=dt.date(1900 + number, 1, 1)) for number in range(20))
        session.flush()
        session.add_all(
            self.Book(
                title=f"Book {number}",
                author_id=number % 20 + 1,
                price=Decimal(number) / 4,
                published=dt.date(2000, 1, 1) + dt.timedelta(days=number),
                added=dt.datetime.fromisoformat("2026-01-02T03:04:05.678901"),
                notes=f"=SUM({number})",
                extra={"pages": number},
            )
            for number in range(books)
        )
        session.add(self.Reader(first_name="Grace", last_name="Hopper", email="grace@example.org"))
        session.add(self.Reader(first_name="Alan", last_name="Turing", email="alan@example.org"))
        session.flush()
        session.add(self.Loan(book_id=1, reader_id=1, due=dt.date(2026, 2, 1), note="first"))
        session.add(self.Loan(book_id=2, reader_id=1, due=dt.date(2026, 3, 1)))
        session.add_all(self.Note(text=text) for text in notes)
        session.execute(sa.insert(self.db.metadata.tables["visit"]).values([{"page": "/", "times": 3}] * 2))


def account_of(admin: Admin) -> None:
    """Make the account of the tests."""
    admin.store.prepare()
    Accounts(admin.store).create(NAME, PASSWORD)


def create_app() -> FastAPI:
    """For uvicorn: a library in the file that LIBRARY_URL names."""
    app = FastAPI()
    library = Library(os.environ["LIBRARY_URL"])
    library.fill(hostile=True)
    account_of(Admin(app, db=library.db, write=True, title="Library", store=os.environ["LIBRARY_STORE"]))
    return app
