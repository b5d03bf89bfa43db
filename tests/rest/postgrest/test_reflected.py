"""A database that exists already, on PostgREST's wire: tables by foreign keys, views, odd names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter, postgrest, reflect
from tests.support.client import TestClient
from tests.support.postgrest import postgrest_client

TABLES = """
CREATE TABLE person (id INTEGER PRIMARY KEY, name VARCHAR(40), password VARCHAR(40), boss_id INTEGER,
  FOREIGN KEY (boss_id) REFERENCES person (id));
CREATE TABLE message (id INTEGER PRIMARY KEY, sender_id INTEGER, reader_id INTEGER, body VARCHAR(40),
  FOREIGN KEY (sender_id) REFERENCES person (id), FOREIGN KEY (reader_id) REFERENCES person (id));
CREATE TABLE team (id INTEGER PRIMARY KEY, name VARCHAR(40));
CREATE TABLE member (team_id INTEGER, person_id INTEGER, PRIMARY KEY (team_id, person_id),
  FOREIGN KEY (team_id) REFERENCES team (id), FOREIGN KEY (person_id) REFERENCES person (id));
CREATE TABLE {q}Order / Details{q} (id INTEGER PRIMARY KEY, {q}unit.price{q} INTEGER, {q}a,b{q} INTEGER);
CREATE TABLE secrets (token VARCHAR(20));
CREATE TABLE hidden (id INTEGER PRIMARY KEY, person_id INTEGER, FOREIGN KEY (person_id) REFERENCES person (id));
CREATE TABLE loose (word VARCHAR(20));
CREATE VIEW bosses AS SELECT id, name FROM person WHERE boss_id IS NULL;
INSERT INTO person VALUES (1, 'Ann', 'x', NULL), (2, 'Bob', 'y', 1), (3, 'Cy', 'z', 1);
INSERT INTO message VALUES (1, 1, 2, 'hello'), (2, 2, 1, 'hi');
INSERT INTO team VALUES (1, 'red');
INSERT INTO member VALUES (1, 1), (1, 3);
INSERT INTO {q}Order / Details{q} VALUES (1, 5, 7);
INSERT INTO loose VALUES ('a'), ('a')
"""

PAGES = """
CREATE TABLE page (id INT PRIMARY KEY, body TEXT, words TSVECTOR, tags TEXT[], data JSONB, raw JSON, at CIDR[]);
INSERT INTO page VALUES (1, 'The fat cats', 'cat fat', '{a,b}', '{"k": [1]}', '{"x": 1}', '{10.0.0.0/8}'),
  (2, 'A rat', 'rat', '{c}', '{}', NULL, '{}')
"""


def guard(request: Request) -> None:
    if request.headers.get("authorization") != "Bearer right":
        raise HTTPException(401, "Who are you?", {"WWW-Authenticate": "Bearer"})


@pytest.fixture
def served(database_url: str) -> Iterator[Any]:
    db = SQLAlchemy(database_url)
    with db.engine.begin() as connection:
        quote = "`" if connection.dialect.name in ("mysql", "mariadb") else '"'
        for statement in TABLES.format(q=quote).split(";"):
            connection.execute(sa.text(statement))
    reflection = reflect(db, exclude=["hidden"])
    app = FastAPI()
    postgrest.mount(app, tables=reflection, prefix="/api", dependencies=[Depends(guard)])
    with TestClient(app, headers={"Authorization": "Bearer right"}) as client:
        yield client
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


def test_a_database_is_served(served: Any) -> None:
    def rows(path: str) -> Any:
        response = served.get(f"/api/{path}")
        assert response.status_code == 200, response.text
        return response.json()

    rest = postgrest_client(served, "/api", Authorization="Bearer right")
    both = "message?select=body,sender:person!sender_id(name),reader:person!message_reader_id_fkey(name)&id=eq.1"
    assert rows(both) == [{"body": "hello", "sender": {"name": "Ann"}, "reader": {"name": "Bob"}}]
    assert rows("message?select=sender_id(name)&id=eq.1") == [{"sender_id": {"name": "Ann"}}]
    assert rows("person?select=name,boss:person!boss_id(name)&id=eq.2") == [{"name": "Bob", "boss": {"name": "Ann"}}]
    assert rows("team?select=person(id)&person.order=id") == [{"person": [{"id": 1}, {"id": 3}]}]
    assert rows("team?select=member(person(name))&member.person_id=eq.3") == [{"member": [{"person": {"name": "Cy"}}]}]
    assert rows("bosses") == [{"id": 1, "name": "Ann"}]
    assert rows("loose?select=word&order=word") == [{"word": "a"}, {"word": "a"}]
    odd = rest.from_("Order / Details").select('"unit.price"', 'x:"a,b"').eq("a,b", 7).execute()
    assert odd.data == [{"unit.price": 5, "x": 7}]
    assert rows('Order%20%2F%20Details?"unit.price"=gt.4&select=id') == [{"id": 1}]
    assert set(rows("person?limit=1")[0]) == {"id", "name", "boss_id"}
    for path, code in (
        ("hidden", "PGRST205"),
        ("secrets", "PGRST205"),
        ("person?select=hidden(id)", "PGRST200"),
        ("person?select=password", "42703"),
        ("message?select=person(name)", "PGRST201"),
        ("person?select=person(name)", "PGRST201"),
    ):
        assert served.get(f"/api/{path}").json()["code"] == code
    for method in ("POST", "PATCH", "DELETE"):
        response = served.request(method, "/api/person?id=eq.1", json={"name": "x"})
        assert (response.status_code, response.json()["code"]) == (405, "25006")
    for path in ("person", "nope", "rpc/x", ""):
        response = served.get(f"/api/{path}", headers={"Authorization": "Bearer wrong"})
        assert (response.status_code, response.json()["code"]) == (401, "PGRST301")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.backends("postgresql")
def test_postgresql_searches_texts_arrays_and_json(database_url: str) -> None:
    db = SQLAlchemy(database_url)
    with db.engine.begin() as connection:
        for statement in PAGES.split(";"):
            connection.exec_driver_sql(statement)
    app = FastAPI()
    postgrest.mount(app, tables=reflect(db))
    with TestClient(app) as client:
        pages = postgrest_client(client).from_("page")

        def found(name: str, *arguments: Any) -> list[int]:
            return [row["id"] for row in getattr(pages.select("id").order("id"), name)(*arguments).execute().data]

        assert found("text_search", "body", "cat & !dog") == found("text_search", "words", "cat") == [1]
        assert found("text_search", "body", "fat cats", {"type": "plain", "config": "english"}) == [1]
        assert found("text_search", "body", "fat -rat", {"type": "web_search"}) == [1]
        assert found("text_search", "body", "fat cats", {"type": "phrase"}) == [1]
        assert found("contains", "tags", ["a"]) == found("overlaps", "tags", ["a", "x"]) == [1]
        assert found("contained_by", "tags", ["c", "d"]) == [2]
        assert found("contains", "data", {"k": [1]}) == found("contains", "raw", {"x": 1}) == [1]
        assert found("contains", "at", ["10.0.0.0/8"]) == [1]
        assert found("or_", "tags.cs.{c},body.imatch.CATS") == [1, 2]
        for query, status, code in (
            ("body=fts.a b c", 400, "42601"),
            ("body=fts(nope).a", 400, "42704"),
            ("tags=cs.{a", 400, "22P02"),
            ("data=cs.{", 400, "22P02"),
            ("data=ov.{}", 404, "42883"),
            ("id=fts.a", 404, "42883"),
            ("body=cs.{a}", 404, "42883"),
            ("at=cs.{x}", 400, "22P02"),
        ):
            response = client.get(f"/rest/v1/page?{query}")
            assert (response.status_code, response.json()["code"]) == (status, code), query
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


def test_what_cannot_be_mounted_is_told() -> None:
    db = SQLAlchemy("sqlite://")
    table = sa.Table("a", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    other = sa.Table("a", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    with pytest.raises(TypeError, match="db="):
        postgrest.mount(FastAPI(), tables=[table])
    with pytest.raises(ValueError, match="scope_query names b"):
        postgrest.mount(FastAPI(), db=db, tables=[table], scope_query={"b": guard})
    with pytest.raises(ValueError, match="two tables named a"):
        postgrest.mount(FastAPI(), db=db, tables=[table, other])
    with pytest.raises(ValueError, match="no field named nope"):
        postgrest.mount(FastAPI(), db=db, tables=[table], exclude={table: ["nope"]})


def test_a_table_has_the_rules_that_routers_have_for_it(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)
    table = sa.Table("note", db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("owner", sa.Integer))

    def mine(x_user: int = Header(), tenant: int = 0) -> Any:
        return table.c.owner == x_user + tenant

    def visible(**options: Any) -> Any:
        app = FastAPI()
        postgrest.mount(app, db=db, tables=[table], **options)
        with TestClient(app) as client:
            for headers in ({"x-user": "1"}, {}):
                response = client.get("/rest/v1/note?select=id&order=id&tenant=0", headers=headers)
                yield [row["id"] for row in response.json()] if response.status_code == 200 else response.status_code
            assert client.portal is not None
            client.portal.call(db.adispose)

    app = FastAPI()
    app.include_router(CRUDRouter(table, db=db, scope_query=mine))
    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(sa.insert(table), [{"id": 1, "owner": 1}, {"id": 2, "owner": 2}])
    assert list(visible()) == [[1], 400]
    assert list(visible(scope_query={table: None})) == [[1, 2], [1, 2]]
    assert list(visible(scope_query={"note": lambda: table.c.owner == 2})) == [[2], [2]]
    db.dispose()


def test_a_rule_holds_for_the_table_whatever_names_it(database_url: str) -> None:
    db = SQLAlchemy(database_url)

    class Memo(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[int] = mapped_column("owner_id")
        text: Mapped[str | None] = mapped_column(sa.String(10))
        parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("memo.id"))

    class Mark(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        memo_id: Mapped[int | None] = mapped_column(sa.ForeignKey("memo.id"))

    def mine(x_user: int = Header()) -> Any:
        other = orm.aliased(Memo)
        return [Memo.owner == x_user, sa.select(other.id).where(other.id == Memo.id).exists()]

    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(
            sa.insert(Memo), [{"id": 1, "owner_id": 1, "text": "m"}, {"id": 2, "owner_id": 2, "text": "t"}]
        )
        connection.execute(sa.insert(Mark), [{"id": 1, "memo_id": 1}, {"id": 2, "memo_id": 2}])
    app = FastAPI()
    app.include_router(CRUDRouter(Memo, db=db, prefix="/memos", scope_query=mine))
    app.include_router(CRUDRouter(Memo.__table__, db=db, prefix="/open", scope_query=None))  # a router says it itself
    postgrest.mount(app, db=db, tables=[Memo.__table__, Mark.__table__], write=True, prefix="/a")
    postgrest.mount(app, tables=reflect(db), write=True, prefix="/b")
    me = {"x-user": "1"}
    with TestClient(app) as client:
        assert len(client.get("/open").json()) == 2
        for prefix in ("/a", "/b"):
            assert client.get(f"{prefix}/memo").status_code == 400
            assert [row["id"] for row in client.get(f"{prefix}/memo", headers=me).json()] == [1]
            nested = client.get(f"{prefix}/mark?select=id,memo(text)&order=id", headers=me).json()
            assert nested == [{"id": 1, "memo": {"text": "m"}}, {"id": 2, "memo": None}]
            inner = client.get(f"{prefix}/mark?select=id,memo!inner(id)", headers=me).json()
            assert [row["id"] for row in inner] == [1]
            for table in ("mark", "memo"):
                key = "memo_id" if table == "mark" else "parent_id"
                refused = client.post(f"{prefix}/{table}", json={"id": 9, key: 2}, headers=me)
                assert (refused.status_code, refused.json()["code"]) == (409, "23503"), refused.text
            client.patch(f"{prefix}/memo?id=eq.2", json={"text": "x"}, headers=me)
            client.delete(f"{prefix}/memo?text=eq.t", headers=me)
            new = {"prefer": "return=representation", **me}
            row = client.post(f"{prefix}/memo", json={"id": 50, "text": "n", "parent_id": 1}, headers=new).json()
            assert [item["owner_id"] for item in row] == [1]
            client.delete(f"{prefix}/memo?text=eq.n", headers=me)
        with db.engine.connect() as connection:
            assert sorted(connection.execute(sa.select(Memo.text)).scalars()) == ["m", "t"]
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()
