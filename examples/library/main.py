"""Books, readers and loans, and an admin to look after them: no class for it, no template, no route."""

from __future__ import annotations

import datetime as dt
import enum
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal

from fastapi import FastAPI
from sqlalchemy import ForeignKey, Numeric, String, Text, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import Session, SQLAlchemy
from fastapi_sqlalchemy.admin import Admin
from fastapi_sqlalchemy.observe.insight import Insight

db = SQLAlchemy(os.environ.get("DATABASE_URL") or "sqlite:///library.db")


class Shelf(enum.Enum):
    """Where a book stands."""

    NOVELS = "novels"
    PLAYS = "plays"
    SCIENCE = "science"


class Author(db.Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    born: Mapped[int | None]


class Book(db.Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    author_id: Mapped[int] = mapped_column(ForeignKey(Author.id))
    shelf: Mapped[Shelf]
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    available: Mapped[bool] = mapped_column(default=True)
    bought: Mapped[dt.date | None]
    notes: Mapped[str | None] = mapped_column(Text)
    author: Mapped[Author] = relationship()


class Reader(db.Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    first_name: Mapped[str] = mapped_column(String(50))
    last_name: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(100), unique=True)
    hashed_password: Mapped[str | None] = mapped_column(String(200))  # the admin never shows it


class Loan(db.Base):
    book_id: Mapped[int] = mapped_column(ForeignKey(Book.id), primary_key=True)
    reader_id: Mapped[int] = mapped_column(ForeignKey(Reader.id), primary_key=True)
    due: Mapped[dt.date]
    book: Mapped[Book] = relationship()
    reader: Mapped[Reader] = relationship()


BOOKS = [
    ("Jane Austen", 1775, Shelf.NOVELS, ("Emma", "Persuasion", "Pride and Prejudice", "Sense and Sensibility")),
    ("Charlotte Brontë", 1816, Shelf.NOVELS, ("Jane Eyre", "Villette")),
    ("Charles Darwin", 1809, Shelf.SCIENCE, ("On the Origin of Species", "The Voyage of the Beagle")),
    ("Henrik Ibsen", 1828, Shelf.PLAYS, ("A Doll's House", "Hedda Gabler", "Peer Gynt")),
    ("Ada Lovelace", 1815, Shelf.SCIENCE, ("Notes on the Analytical Engine",)),
    ("Molière", 1622, Shelf.PLAYS, ("Tartuffe", "The Misanthrope")),
    ("Mary Shelley", 1797, Shelf.NOVELS, ("Frankenstein", "The Last Man")),
    ("Leo Tolstoy", 1828, Shelf.NOVELS, ("Anna Karenina", "War and Peace")),
    ("Jules Verne", 1828, Shelf.NOVELS, ("Around the World in Eighty Days", "Twenty Thousand Leagues Under the Seas")),
]


def fill(session: Session) -> None:
    """Add a few rows to an empty library."""
    if session.scalars(select(Author).limit(1)).first() is not None:
        return
    for name, born, shelf, titles in BOOKS:
        author = Author(name=name, born=born)
        for title in titles:
            price = Decimal(len(title) * 45 + 320) / 100
            bought = dt.date(2025, 1, 7) + dt.timedelta(days=17 * len(title))
            session.add(Book(title=title, author=author, shelf=shelf, price=price, bought=bought))
    session.flush()
    for first, last in (("Grace", "Hopper"), ("Alan", "Turing"), ("Emmy", "Noether")):
        session.add(Reader(first_name=first, last_name=last, email=f"{first}@example.org".lower()))
    session.flush()
    session.add_all(Loan(book_id=n, reader_id=n % 3 + 1, due=dt.date(2026, 1, n + 3)) for n in (2, 5, 9, 12))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Tables first, then the rows."""
    async with db.lifespan(app):
        await db.run(fill)
        yield


app = FastAPI(title="Library", lifespan=lifespan, debug=os.environ.get("DEBUG") == "1")
Admin(app, db=db, write=True, title="Library")
Insight(app)


@app.get("/loans")
def loans() -> list[dict[str, str]]:
    """Who has what; book, author and reader are loaded one by one on purpose, and /debug/db says so."""
    return [
        {"book": loan.book.title, "author": loan.book.author.name, "reader": loan.reader.first_name}
        for loan in db.session.scalars(select(Loan).order_by(Loan.due))
    ]
