"""Rows that text joins are told apart as their database does, on generated routes and on PostgREST's wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter, postgrest
from fastapi_sqlalchemy.rest.operations.rows import Target
from tests.support.client import TestClient

MERGE = {"prefer": "return=representation,resolution=merge-duplicates"}
IGNORE = {"prefer": "return=representation,resolution=ignore-duplicates"}


class Map:
    def __init__(self, url: str) -> None:
        self.db = db = SQLAlchemy(url)
        folding = db.engine.dialect.name == "mysql"
        kind = sa.String(20, collation="utf8mb4_unicode_ci") if folding else sa.String(20)
        self.folds = folding
        near = kind if db.engine.dialect.name != "sqlite" else sa.String(20, collation="NOCASE")

        class City(db.Base):
            code: Mapped[str] = mapped_column(kind, primary_key=True)
            text: Mapped[str | None] = mapped_column(sa.String(20))
            streets: Mapped[list[Street]] = relationship(back_populates="city", order_by="Street.id")

        class Street(db.Base):
            id: Mapped[int] = mapped_column(primary_key=True)
            city_code: Mapped[str | None] = mapped_column(sa.ForeignKey("city.code"), type_=kind)
            city: Mapped[City | None] = relationship(back_populates="streets")

        class Town(db.Base):
            code: Mapped[str] = mapped_column(near, primary_key=True)
            number: Mapped[int | None] = mapped_column(unique=True)
            text: Mapped[str | None] = mapped_column(sa.String(20))

        self.city, self.street, self.town = City, Street, Town
        db.create_all()
        app = FastAPI()
        app.include_router(CRUDRouter(City, db=db, prefix="/cities"))
        app.include_router(CRUDRouter(Street, db=db, prefix="/streets"))
        app.include_router(CRUDRouter(Town, db=db, prefix="/towns"))
        postgrest.mount(app, db=db, tables=[City, Street, Town], write=True)
        self.client = TestClient(app)

    def insert(self, model: Any, *rows: dict[str, Any]) -> None:
        with self.db.engine.begin() as connection:
            connection.execute(sa.insert(model), list(rows))

    def codes(self, model: Any) -> list[str]:
        with self.db.engine.connect() as connection:
            return sorted(connection.execute(sa.select(model.code)).scalars())

    def get(self, path: str) -> Any:
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        response = self.client.post(path, json=body, headers=headers)
        assert response.status_code in (200, 201), response.text
        return response.json()


@pytest.fixture
def atlas(database_url: str) -> Iterator[Map]:
    found = Map(database_url)
    with found.client as client:
        yield found
        assert client.portal is not None
        client.portal.call(found.db.adispose)
    found.db.dispose()


def test_related_rows_belong_to_the_parents_that_the_database_says(atlas: Map) -> None:
    upper = "abd" if atlas.folds else "ABC"
    atlas.insert(atlas.city, {"code": "abc"}, {"code": upper}, {"code": "über"})
    others = [("ábc" if atlas.folds else "abc"), upper, ("UBER" if atlas.folds else "über"), "abc"]
    atlas.insert(atlas.street, *({"id": number, "city_code": code} for number, code in enumerate(others, 1)))
    expected = {"abc": [1, 4], upper: [2], "über": [3]}
    wire = atlas.get("/rest/v1/city?select=code,street(id)")
    plain = [atlas.get("/cities?include=streets") for _ in range(3)]  # by the short ways too
    found = {row["code"]: [item["id"] for item in row["street"]] for row in wire}
    assert found == expected
    for rows in plain:
        assert {row["code"]: [item["id"] for item in row["streets"]] for row in rows} == expected
    owners = {number: code for code, numbers in expected.items() for number in numbers}
    for path, member in (("/rest/v1/street?select=id,city!inner(code)", "city"), ("/streets?include=city", "city")):
        assert {row["id"]: row[member]["code"] for row in atlas.get(path)} == owners
    limited = atlas.get("/rest/v1/city?select=code,street(id)&street.limit=1&street.order=id.desc&code=eq.abc")
    assert limited == [{"code": "abc", "street": [{"id": 4}]}]


def test_an_upsert_answers_the_rows_that_the_given_ones_met(atlas: Map) -> None:
    one, two = ("ss", "ß") if atlas.folds else ("x1", "X1")
    for path, key, headers in (("/rest/v1/city", "code", MERGE), ("/cities/-/upsert?on_conflict=code", "code", None)):
        rows = [{key: one, "text": "1"}, {key: "other", "text": "2"}, {key: two, "text": "3"}]
        found = atlas.post(path, rows, headers)
        answered = [(row["code"], row["text"]) for row in found]
        assert answered == [(one, "3" if atlas.folds else "1"), ("other", "2"), (one if atlas.folds else two, "3")]
        assert atlas.post(path, [{key: two, "text": "4"}], headers)[0]["text"] == "4"
    new = atlas.post("/rest/v1/city", [{"code": "Other"}, {"code": "new"}, {"code": "NEW"}], IGNORE)
    assert [row["code"] for row in new] == (["new"] if atlas.folds else ["Other", "new", "NEW"])
    if atlas.folds:
        atlas.insert(atlas.city, {"code": "abc"})
        assert atlas.post("/rest/v1/city", {"code": "ábc"}, IGNORE) == []
        assert atlas.post("/rest/v1/city", [{"code": "ÁBC"}, {"code": "zß"}, {"code": "ZSS"}], MERGE)[2]["code"] == "zß"


def test_a_merge_leaves_the_key_as_it_is(atlas: Map) -> None:
    atlas.insert(atlas.town, {"code": "n1", "number": 1})
    before = atlas.codes(atlas.town)
    met = atlas.db.engine.dialect.name in ("mysql", "sqlite")
    for path, headers in (("/rest/v1/town", MERGE), ("/towns/-/upsert?on_conflict=code", None)):
        found = atlas.post(path, [{"code": "N1"}], headers)
        assert [row["code"] for row in found] == (["n1"] if met else ["N1"])
        assert atlas.codes(atlas.town) == (before if met else ["N1", "n1"])


def test_without_returning_a_merge_changes_no_row_but_the_one_that_it_names(
    atlas: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas.insert(atlas.town, {"code": "mine", "number": 1}, {"code": "theirs", "number": 2})
    made = Target.__init__

    def cautious(self: Target, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        self.cautious = True

    for returning in (True, False):
        if not returning:
            monkeypatch.setattr(Target, "__init__", cautious)
        for path, headers in (("/rest/v1/town?on_conflict=number", MERGE), ("/towns/-/upsert?on_conflict=number", {})):
            for body in ({"code": "theirs", "number": 1, "text": "x"}, {"code": "theirs", "number": 3, "text": "x"}):
                response = atlas.client.post(path, json=body, headers=headers)
                with atlas.db.engine.connect() as connection:
                    stored = connection.execute(sa.select(atlas.town.code, atlas.town.text)).all()
                assert ("theirs", None) in [tuple(row) for row in stored], (returning, path, body)
                assert response.status_code in (200, 201, 409)
