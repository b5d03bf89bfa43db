"""The application that the clients of the dialects talk to, with the same rows at every start."""

from __future__ import annotations

import datetime as dt
import os
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter

__all__ = ["DIALECTS", "build", "fill"]

DIALECTS = ("simple-rest", "json-server")
MOMENT = dt.datetime.fromisoformat("2026-01-02T03:04:05")
ORIGIN = "http://admin.example"


def build(db: SQLAlchemy, *, use_async: bool | None = None) -> FastAPI:
    """Return the application: posts of authors, countries with a key of text, order lines with a key of two parts."""
    base: Any = db.Base

    class Author(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(40), unique=True)
        country_code: Mapped[str | None] = mapped_column(sa.ForeignKey("country.code"))
        posts: Mapped[list[Post]] = relationship(back_populates="author")

    class Post(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(sa.String(80))
        body: Mapped[str | None] = mapped_column(sa.Text)
        views: Mapped[int] = mapped_column(default=0)
        price: Mapped[Decimal | None] = mapped_column(sa.Numeric(8, 2))
        is_public: Mapped[bool] = mapped_column(default=True)
        author_id: Mapped[int | None] = mapped_column(sa.ForeignKey("author.id"))
        created_at: Mapped[dt.datetime] = mapped_column(default=MOMENT)
        author: Mapped[Author | None] = relationship(back_populates="posts")

    class Country(base):
        code: Mapped[str] = mapped_column(sa.String(8), primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(40))

    class Line(base):
        order_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        place: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
        amount: Mapped[int]

    app = FastAPI(lifespan=db.lifespan)
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_methods=["*"], allow_headers=["*"])
    options: dict[str, Any] = {"db": db, "dialects": DIALECTS, "use_async": use_async}
    for model, prefix in ((Author, "/authors"), (Post, "/posts"), (Country, "/countries"), (Line, "/lines")):
        app.include_router(CRUDRouter(model, prefix=prefix, **options))
    return app


def fill(db: SQLAlchemy) -> None:
    """Make the tables anew, with the same rows."""
    db.drop_all(confirmed=True)
    db.create_all()
    tables = db.metadata.tables
    rows: dict[str, list[dict[str, Any]]] = {
        "country": [{"code": code, "name": name} for code, name in (("it", "Italy"), ("no", "Norway"), ("pe", "Peru"))],
        "author": [
            {"id": 1, "name": "Ada", "country_code": "it"},
            {"id": 2, "name": "Ben, jr", "country_code": "no"},
            {"id": 3, "name": "Cy", "country_code": None},
        ],
        "post": [
            {
                "id": number,
                "title": f"Post {number:02}" if number % 2 else f"post, {number:02}",
                "body": None if number % 3 else f"lamp {number}",
                "views": number * 10 % 70,
                "price": Decimal(number) / 4,
                "is_public": number % 4 != 0,
                "author_id": number % 3 + 1,
                "created_at": MOMENT,
            }
            for number in range(1, 28)
        ],
        "line": [
            {"order_id": order, "place": place, "amount": order * 10 + len(place)}
            for order in (1, 2, 3)
            for place in ("a", "b/c", "d,e")
        ],
    }
    with db.engine.begin() as connection:
        for name, values in rows.items():
            connection.execute(tables[name].insert(), values)
        if connection.dialect.name == "postgresql":
            for name in ("author", "post"):
                statement = f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))"
                connection.execute(sa.text(statement))


def create() -> FastAPI:
    """Return the application on the database of ``DATABASE_URL``, filled."""
    db = SQLAlchemy(os.environ["DATABASE_URL"])
    app = build(db)
    fill(db)
    return app
