"""Rows inserted, merged, changed and deleted by PostgREST's clients and in its wire, as Prefer asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from postgrest import APIError

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter, postgrest
from tests.support.client import TestClient

MINE = {"x-user": "1"}
BACK = {"prefer": "return=representation"}
OBJECT = "application/vnd.pgrst.object+json"


def send(library: Any, method: str, path: str, body: Any = None, **headers: str) -> Any:
    return library.client.request(method, f"/rest/v1/{path}", json=body, headers=headers)


def refused(library: Any, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
    response = send(library, method, path, body, **headers)
    assert set(response.json()) == {"code", "message", "details", "hint"}, response.text
    return response.status_code, response.json()["code"]


def names(library: Any) -> list[str]:
    return [row["name"] for row in library.rows("author?select=name&order=id")]


def test_an_insert_answers_as_it_is_asked_to(library: Any) -> None:
    response = send(library, "POST", "author", {"name": "Dora"})
    assert (response.status_code, response.content, response.headers["content-range"]) == (201, b"", "*/*")
    response = send(library, "POST", "author", {"id": 50, "name": "Eve"}, prefer="return=headers-only,count=exact")
    assert (response.headers["location"], response.headers["content-range"]) == ("/rest/v1/author?id=eq.50", "*/1")
    assert response.headers["preference-applied"] == "return=headers-only, count=exact"
    response = send(library, "POST", "author?select=name,book!author_id(id)", {"name": "Fay"}, **BACK)
    assert (response.status_code, response.json()) == (201, [{"name": "Fay", "book": []}])
    response = send(library, "POST", "pair", {"left": 3, "right": 4}, prefer="return=headers-only")
    assert response.headers["location"] == "/rest/v1/pair?left=eq.3&right=eq.4"
    response = send(library, "POST", "author", {"name": "Gus"}, accept=OBJECT, **BACK)
    assert response.json()["name"] == "Gus"
    response = send(library, "POST", "author", [{"name": "Hal"}, {"name": "Ida"}], accept=OBJECT, **BACK)
    assert (response.status_code, response.json()["code"]) == (406, "PGRST116")
    assert set(names(library)[3:]) == {"Dora", "Eve", "Fay", "Gus"}


def test_the_client_inserts(library: Any) -> None:
    tags = library.rest.from_("tag")
    assert tags.insert({"id": 7, "name": "seven"}).execute().data == [{"id": 7, "name": "seven"}]
    many = tags.insert([{"name": "b"}, {"name": "a"}], count="exact").execute()
    assert ([row["name"] for row in many.data], many.count) == (["b", "a"], 2)
    assert tags.insert({"name": "quiet"}, returning="minimal").execute().data == []
    assert tags.insert([]).execute().data == []
    book = (
        library.rest.from_("book")
        .insert({"title": "E", "price": 1.25, "details": {"a": [1]}})
        .select("title", "pages", "price")
    )
    assert book.execute().data == [{"title": "E", "pages": 0, "price": 1.25}]
    with pytest.raises(APIError) as raised:
        tags.insert({"name": "old"}).execute()
    assert raised.value.code == "23505"


def test_bytes_have_the_form_of_postgresql(library: Any) -> None:
    pairs = library.rest.from_("pair")
    new = pairs.insert({"left": 5, "right": 5, "data": b"\x00\xff"}).select("data", "text:data::text").execute()
    assert new.data == [{"data": "\\x00ff", "text": "\\x00ff"}]
    assert [row["left"] for row in pairs.select("*").eq("data", "\\x00ff").execute().data] == [5]
    assert refused(library, "POST", "pair", {"left": 6, "right": 6, "data": "\\x0"}) == (400, "22P02")
    assert library.refused("pair?data=eq.\\xzz") == (400, "22P02")


def test_columns_and_what_rows_leave_out(library: Any) -> None:
    rows = [{"title": "A", "pages": 5, "extra": 1}, {"title": "B"}]
    columns = 'book?columns="title","pages"&select=title,pages'
    assert refused(library, "POST", columns, rows) == (400, "23502")
    response = send(library, "POST", columns, rows, prefer="return=representation,missing=default")
    assert response.json() == [{"title": "A", "pages": 5}, {"title": "B", "pages": 0}]
    assert response.headers["preference-applied"] == "missing=default, return=representation"
    response = send(
        library, "POST", "book?columns=title,price&select=title,price", [{"title": "C", "pages": 9}], **BACK
    )
    assert response.json() == [{"title": "C", "price": None}]
    assert refused(library, "POST", "book", [{"title": "A"}, {"pages": 1}]) == (400, "PGRST102")
    assert library.rest.from_("draft").insert([{}, {}], default_to_null=False).execute().data[1]["text"] == "empty"


def test_an_upsert_merges_or_ignores(library: Any) -> None:
    tags = library.rest.from_("tag")
    merged = tags.upsert([{"id": 1, "name": "ancient"}, {"id": 9, "name": "nine"}]).execute().data
    assert merged == [{"id": 1, "name": "ancient"}, {"id": 9, "name": "nine"}]
    assert tags.upsert({"name": "fresh"}).execute().data[0]["name"] == "fresh"
    authors = library.rest.from_("author")
    by_name = [{"name": "Cara", "active": True}, {"name": "New", "active": True}]
    found = authors.upsert(by_name, on_conflict="name").execute().data
    assert [(row["name"], row["active"]) for row in found] == [("Cara", True), ("New", True)]
    assert found[0]["id"] == 3
    ignored = authors.upsert(
        [{"name": "Ann", "active": False}, {"name": "Zoe", "active": None}, {"name": "Zoe", "active": True}],
        on_conflict="name", ignore_duplicates=True,
    ).execute().data  # fmt: skip
    assert [(row["name"], row["active"]) for row in ignored] == [("Zoe", None)]
    assert library.rows("author?select=active&name=eq.Ann") == [{"active": True}]
    response = send(
        library, "POST", "tag", [{"id": 1, "name": "x"}], prefer="resolution=ignore-duplicates," + BACK["prefer"]
    )
    assert (response.status_code, response.json()) == (201, [])
    assert response.headers["preference-applied"] == "resolution=ignore-duplicates, return=representation"
    assert refused(library, "POST", "author?on_conflict=born", {"name": "x"}, prefer="resolution=merge-duplicates") == (
        400,
        "42P10",
    )
    response = send(library, "POST", "author?on_conflict=name", {"name": "Ann"}, prefer="resolution=merge-duplicates")
    assert (response.status_code, response.content) == (201, b"")


def test_a_patch_changes_what_its_filter_finds(library: Any) -> None:
    books = library.rest.from_("book")
    changed = books.update({"pages": 1, "price": None}, count="exact").gt("pages", 150).select("id,pages").execute()
    assert (sorted(row["id"] for row in changed.data), changed.count) == ([2, 3], 2)
    assert {row["pages"] for row in changed.data} == {1}
    response = send(library, "PATCH", "book?id=eq.1", {"title": "New"})
    assert (response.status_code, response.content, response.headers["content-range"]) == (204, b"", "0-0/*")
    assert "preference-applied" not in response.headers
    path = "book?author_id=eq.1&select=title,author!author_id(name)&order=title.desc"
    response = send(library, "PATCH", path, {"pages": 2}, **BACK)
    assert [row["title"] for row in response.json()] == ["New", "Beta (2nd)"]
    assert response.json()[0]["author"] == {"name": "Ann"}
    inner = "book?select=id,author!author_id!inner()&author.name=eq.Ann"
    assert len(send(library, "PATCH", inner, {"pages": 3}, **BACK).json()) == 2
    response = send(library, "PATCH", "book?id=eq.99", {"pages": 2}, **BACK)
    assert (response.status_code, response.json(), response.headers["content-range"]) == (200, [], "*/*")
    assert send(library, "PATCH", "book?id=eq.1", {}, **BACK).json() == []
    response = send(library, "PATCH", "book?id=eq.1&columns=pages&select=pages,title", {"pages": 8, "x": 1}, **BACK)
    assert response.json() == [{"pages": 8, "title": "New"}]
    response = send(library, "PATCH", "book?id=in.(1,2)", {"pages": 77}, accept=OBJECT, **BACK)
    assert (response.status_code, library.rows("book?pages=eq.77")) == (406, [])


def test_a_delete_deletes_what_its_filter_finds(library: Any) -> None:
    gone = library.rest.from_("book").delete(count="exact").eq("id", 4).execute()
    assert (gone.data[0]["title"], gone.count) == ("Delta", 1)
    response = send(library, "DELETE", "book?id=eq.2")
    assert (response.status_code, response.content, response.headers["content-range"]) == (204, b"", "*/*")
    assert library.rows("book?select=id&order=id") == [{"id": 1}, {"id": 3}]
    assert send(library, "DELETE", "pair?left=eq.1&right=eq.2", **BACK).json() == [
        {"left": 1, "right": 2, "text": "b", "data": None}
    ]
    assert refused(library, "DELETE", "author?id=eq.1") == (409, "23503")
    library.insert("Draft", {"id": 1, "text": "a"})
    assert send(library, "DELETE", "draft?id=eq.1&select=id", **BACK).json() == [{"id": 1}]
    assert library.rows("draft") == []
    with library.db.engine.connect() as connection:
        assert len(connection.execute(library.models["Draft"].__table__.select()).all()) == 1


def test_no_more_rows_are_changed_than_may_be(library: Any) -> None:
    with pytest.raises(APIError) as raised:
        library.rest.from_("book").update({"pages": 1}).gt("id", 0).max_affected(3).execute()
    assert raised.value.code == "PGRST124"
    assert refused(library, "DELETE", "pair?left=eq.1", prefer="handling=strict, max-affected=1") == (400, "PGRST124")
    assert send(library, "PATCH", "book?id=gt.0", {"pages": 1}, prefer="max-affected=1").status_code == 204
    assert refused(library, "PATCH", "book", {"pages": 1}) == (400, "21000")
    assert refused(library, "DELETE", "book") == (400, "21000")
    assert refused(library, "DELETE", "book?id=gt.0&limit=1") == (400, "PGRST127")
    library.insert("Tag", *({"id": number, "name": f"t{number}"} for number in range(100, 130)))
    assert refused(library, "PATCH", "tag?id=gte.100", {"name": "x"}, **BACK) == (400, "PGRST124")
    assert refused(library, "DELETE", "tag?id=gte.100") == (400, "PGRST124")
    assert refused(library, "POST", "tag", [{"name": f"n{number}"} for number in range(30)]) == (400, "PGRST124")


def test_another_owners_rows_cannot_be_reached(library: Any) -> None:
    def theirs() -> Any:
        return library.rows("note?id=eq.2", **{"x-user": "2"})

    before = theirs()
    for method, path, body in (
        ("PATCH", "note?id=eq.2", {"text": "x"}),
        ("PATCH", "note?id=gt.0", {"text": "x"}),
        ("DELETE", "note?id=gt.0", None),
        ("DELETE", "note?text=eq.theirs", None),
    ):
        response = send(library, method, path, body, **MINE, **BACK)
        assert "theirs" not in response.text
        assert theirs() == before
    merge = {"prefer": "resolution=merge-duplicates,return=representation"}
    assert refused(library, "POST", "note", {"id": 2, "text": "x"}, **MINE, **merge) == (404, "not_found")
    ignore = {"prefer": "resolution=ignore-duplicates,return=representation"}
    assert send(library, "POST", "note", {"id": 2, "text": "x"}, **MINE, **ignore).json() == []
    new = send(library, "POST", "note?select=owner_id", {"text": "x", "owner_id": 2}, **MINE, **BACK)
    assert new.json() == [{"owner_id": 1}]
    assert refused(library, "PATCH", "note?text=eq.x", {"owner_id": 2}, **MINE) == (400, "22P02")
    assert send(library, "PATCH", "note?text=eq.x", {"owner_id": 1}, **MINE).status_code == 204
    assert theirs() == before
    for method in ("POST", "PATCH", "DELETE"):
        assert refused(library, method, "note?id=eq.1", {"text": "x"}) == (401, "PGRST301")


def test_a_change_takes_no_row_away_from_its_owner(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)
    table = sa.Table("note", db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("owner", sa.Integer))
    app = FastAPI()
    app.include_router(CRUDRouter(table, db=db, bulk=True, scope_query=lambda: table.c.owner < 3))
    postgrest.mount(app, db=db, tables=[table], write=True)
    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(sa.insert(table), [{"id": 1, "owner": 1}, {"id": 2, "owner": 2}])
    with TestClient(app) as client:
        for path in ("/rest/v1/note?id=gt.0", "/note?id__gt=0"):
            assert client.patch(path, json={"owner": 7}).status_code == 404
            assert client.patch(path, json={"owner": 2}).status_code in (200, 204)
        assert [row["owner"] for row in client.get("/rest/v1/note").json()] == [2, 2]
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


@pytest.fixture
def crates(database_url: str) -> Iterator[Any]:
    """Crates of two teams that are mine, 10 and 11, and one of another, served by both ways; their teams by id."""
    db = SQLAlchemy(database_url)
    table = sa.Table(
        "crate",
        db.metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("team", sa.Integer),
        sa.Column("code", sa.String(10), unique=True),
    )
    app = FastAPI()
    app.include_router(CRUDRouter(table, db=db, bulk=True, scope_query=lambda: table.c.team.in_([10, 11])))
    postgrest.mount(app, db=db, tables=[table], write=True)
    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(sa.insert(table), [{"id": 1, "team": 10, "code": "a"}, {"id": 2, "team": 20, "code": "b"}])

    def teams() -> dict[int, int]:
        with db.engine.connect() as connection:
            return {row.id: row.team for row in connection.execute(sa.select(table))}

    with TestClient(app) as client:
        yield client, teams
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


@pytest.mark.parametrize("prefer", ["return=representation", "return=minimal"])
def test_no_write_leaves_the_rows_of_the_caller(crates: Any, prefer: str) -> None:
    client, teams = crates
    rest, merge = {"prefer": prefer}, {"prefer": f"resolution=merge-duplicates,{prefer}"}
    for method, path, body, headers in (
        ("PATCH", "/rest/v1/crate?id=eq.1", {"team": 20}, rest),
        ("PATCH", "/crate?id=1", {"team": 20}, {}),
        ("POST", "/rest/v1/crate", {"id": 77, "team": 20}, merge),
        ("POST", "/rest/v1/crate", [{"id": 1, "team": 11}, {"id": 1, "team": 20}], merge),
        ("POST", "/rest/v1/crate?on_conflict=code", {"id": 1, "team": 20, "code": "a"}, merge),
        ("POST", "/rest/v1/crate", {"id": 2, "team": 10}, merge),
        ("POST", "/crate/-/upsert?on_conflict=id", {"id": 78, "team": 20}, {}),
        ("POST", "/crate/-/upsert?on_conflict=id", {"id": 1, "team": 20}, {}),
    ):
        response = client.request(method, path, json=body, headers=headers)
        assert response.status_code == 404, (method, path, body, response.text)
        assert teams() == {1: 10, 2: 20}
    assert client.post("/rest/v1/crate", json={"id": 1, "team": 11}, headers=merge).status_code in (200, 201)
    assert client.post("/crate/-/upsert?on_conflict=id", json={"id": 3, "team": 11}).status_code < 300
    assert client.patch("/rest/v1/crate?id=eq.1", json={"team": 10}, headers=rest).status_code < 300
    assert teams() == {1: 10, 2: 20, 3: 11}


def test_more_rows_are_changed_than_a_statement_has_parameters(postgres_url: str) -> None:
    db = SQLAlchemy(postgres_url)
    columns = (sa.Column(name, sa.Integer, primary_key=True, autoincrement=False) for name in ("left", "right"))
    table = sa.Table("wide", db.metadata, *columns, sa.Column("text", sa.Text))
    code = sa.Table("code", db.metadata, sa.Column("code", sa.String(10), primary_key=True), sa.Column("n", sa.Integer))
    app = FastAPI()
    postgrest.mount(app, db=db, tables=[table, code], write=True, max_affected=40_000, max_page_size=40_000)
    db.create_all()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO wide SELECT i, -i FROM generate_series(1, 33000) AS i")
        connection.exec_driver_sql("INSERT INTO code SELECT 'c' || i, i FROM generate_series(1, 1500) AS i")
    with TestClient(app) as client:
        changed = client.patch("/rest/v1/wide?left=gt.0&select=left&order=left.desc", json={"text": "x"}, headers=BACK)
        assert [row["left"] for row in changed.json()] == list(range(33_000, 0, -1))
        assert len(client.delete("/rest/v1/wide?left=gt.0&select=left", headers=BACK).json()) == 33_000
        assert len(client.patch("/rest/v1/code?n=gt.0&select=code", json={"n": 1}, headers=BACK).json()) == 1500
        assert client.portal is not None
        client.portal.call(db.adispose)
    with db.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count(), sa.func.max(table.c.text))).one() == (0, None)
    db.dispose()
