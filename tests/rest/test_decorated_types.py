"""A column of a type that is made of another is read, written, filtered and documented as what it is made of."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient


class Number(sa.types.TypeDecorator[int]):
    impl = sa.Integer
    cache_ok = True


class Lower(sa.types.TypeDecorator[str]):
    impl = sa.String(5)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.lower()


class Document(sa.types.TypeDecorator[Any]):
    impl = sa.JSON
    cache_ok = True


class Moment(sa.types.TypeDecorator[dt.datetime]):
    impl = sa.DateTime
    cache_ok = True


class Twice(sa.types.TypeDecorator[int]):
    impl = Number
    cache_ok = True


GOOD = [
    ("number", 7, 7),
    ("twice", 7, 7),
    ("lower", "ABC", "abc"),
    ("document", {"a": [1]}, {"a": [1]}),
    ("moment", "2026-01-31T13:45:00", "2026-01-31T13:45:00"),
]
BAD = [("number", "7"), ("number", 2**40), ("twice", "x"), ("lower", "sixsix"), ("lower", 5), ("moment", "soon")]


def test_values_go_in_and_come_out_as_the_underlying_type(database_url: str) -> None:
    db = SQLAlchemy(database_url)

    class Item(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int | None] = mapped_column(Number)
        twice: Mapped[int | None] = mapped_column(Twice)
        lower: Mapped[str | None] = mapped_column(Lower)
        document: Mapped[Any] = mapped_column(Document, nullable=True)
        moment: Mapped[dt.datetime | None] = mapped_column(Moment)

    db.create_all()
    app = FastAPI()
    app.include_router(CRUDRouter(Item, db=db))
    with TestClient(app) as client:
        for name, given, stored in GOOD:
            answer = client.post("/item", json={name: given})
            assert (answer.status_code, answer.json()[name]) == (201, stored), answer.text
            assert client.get(answer.headers["location"]).json()[name] == stored
            if name != "document":
                assert len(client.get("/item", params={name: given}).json()) == 1, name
        for name, given in BAD:
            assert client.post("/item", json={name: given}).status_code == 422, (name, given)
        properties = client.get("/openapi.json").json()["components"]["schemas"]["Item"]["properties"]
        assert properties["number"]["anyOf"][0]["type"] == "integer"
        assert client.portal is not None
        client.portal.call(db.adispose)
