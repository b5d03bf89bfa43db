"""What a mount is told of its tables holds for every request: hooks, columns, schemas, deadlines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from sqlalchemy.orm import Mapped, Session, mapped_column

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import postgrest, reflect
from tests.support.client import TestClient


@contextmanager
def mounted(url: str, **options: Any) -> Iterator[tuple[TestClient, Any]]:
    db = SQLAlchemy(url)

    class Person(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None] = mapped_column(sa.String(40))
        email: Mapped[str | None] = mapped_column(sa.String(40))
        api_token: Mapped[str | None] = mapped_column(sa.String(40))

    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(sa.insert(Person), {"id": 1, "name": "Ann", "email": "a@b", "api_token": "t"})
    app = FastAPI()
    chosen = {name: {Person: value} for name, value in options.items()}
    postgrest.mount(app, db=db, tables=[Person], write=True, **chosen)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, db
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


class Hooks:
    """Names are kept in capitals; nobody is called X, and nobody is deleted."""

    @staticmethod
    def before_create(session: Session, values: dict[str, Any]) -> None:
        values["name"] = values["name"].upper()

    @staticmethod
    async def before_update(session: Session, values: dict[str, Any]) -> None:
        if values.get("name") == "X":
            raise HTTPException(403, "Not X.")

    @staticmethod
    def before_delete(session: Session, row: Any) -> None:
        raise HTTPException(409, "People stay.")

    @staticmethod
    def after_read(session: Session, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["seen"] = True


def test_hooks_are_called(sqlite_url: str) -> None:
    with mounted(sqlite_url, hooks=Hooks) as (client, _):
        back = {"prefer": "return=representation"}
        new = client.post("/rest/v1/person?select=name", json={"name": "bob"}, headers=back)
        assert new.json() == [{"name": "BOB", "seen": True}]
        refused = client.patch("/rest/v1/person?id=eq.1", json={"name": "X"})
        assert (refused.status_code, refused.json()) == (
            403,
            {"code": "42501", "details": None, "hint": None, "message": "Not X."},
        )
        assert client.delete("/rest/v1/person?id=gt.0").status_code == 409
        assert client.get("/rest/v1/person?select=name&order=id").json() == [
            {"name": "Ann", "seen": True},
            {"name": "BOB", "seen": True},
        ]


class Mask:
    """Shows nobody's address, and whose row it is."""

    @staticmethod
    def after_read(session: Session, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["email"] = "***"
            row["seen"] = sorted(row)


def test_a_hook_sees_columns_under_their_own_names(sqlite_url: str) -> None:
    with mounted(sqlite_url, hooks=Mask) as (client, _):
        found = client.get("/rest/v1/person?select=x:email,y:email::text,number:id::text")
        assert found.json() == [{"x": "***", "y": "***", "number": "1", "seen": ["email", "id"]}]
        assert client.get("/rest/v1/person?select=name:email,id:name").json() == [
            {"name": "***", "id": "Ann", "seen": ["email", "name"]}
        ]
        changed = client.patch(
            "/rest/v1/person?id=eq.1&select=x:email", json={"name": "B"}, headers={"prefer": "return=representation"}
        )
        assert changed.json() == [{"x": "***", "seen": ["email"]}]
        assert client.get("/rest/v1/person?select=x:email", headers={"accept": "text/csv"}).text == "x\n***\n".replace(
            "\n", "\r\n"
        )


def test_a_hook_may_leave_rows_out_of_the_answer_to_a_write(sqlite_url: str) -> None:
    class Nobody:
        @staticmethod
        def after_read(session: Session, rows: list[Any]) -> list[Any]:
            return rows[1:]

    with mounted(sqlite_url, hooks=Nobody) as (client, _):
        changed = client.patch(
            "/rest/v1/person?id=eq.1", json={"name": "B"}, headers={"prefer": "return=representation"}
        )
        assert (changed.status_code, changed.json()) == (200, [])


def test_a_hook_sees_no_embedding_in_the_place_of_a_column(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class Team(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str | None] = mapped_column(sa.String(40))

    class Member(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str | None] = mapped_column(sa.String(40))
        team_id: Mapped[int] = mapped_column(sa.ForeignKey("team.id"))

    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(sa.insert(Team), {"id": 1, "email": "t@x"})
        connection.execute(sa.insert(Member), {"id": 1, "email": "m@x", "team_id": 1})
    app = FastAPI()
    postgrest.mount(app, db=db, tables=[Team.__table__, Member.__table__], hooks={"member": Mask})
    with TestClient(app) as client:
        found = client.get("/rest/v1/member?select=x:email,team(y:email)").json()
        assert found == [{"x": "***", "team": {"y": "t@x"}, "seen": ["email", "team"]}]
        for select in ("x:email,email:team(id)", "x:email,...team(email)"):
            response = client.get(f"/rest/v1/member?select={select}")
            assert (response.status_code, response.json()["code"]) == (400, "42712")
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


def test_columns_are_hidden_and_shown(sqlite_url: str) -> None:
    with mounted(sqlite_url, exclude=["email"], expose=["api_token"]) as (client, _):
        assert client.get("/rest/v1/person?api_token=eq.t").json() == [{"id": 1, "name": "Ann", "api_token": "t"}]
        assert client.get("/rest/v1/person?email=eq.a").json()["code"] == "42703"
        assert client.post("/rest/v1/person", json={"email": "x"}).json()["code"] == "PGRST204"


def test_a_slow_query_ends_by_its_deadline(postgres_url: str) -> None:
    db = SQLAlchemy(postgres_url, statement_timeout=0.3)
    with db.engine.begin() as connection:
        connection.execute(sa.text("CREATE VIEW slow AS SELECT pg_sleep(5)::text AS word"))
    app = FastAPI()
    postgrest.mount(app, db=db, tables=[sa.Table("slow", sa.MetaData(), sa.Column("word", sa.Text))])
    with TestClient(app) as client:
        response = client.get("/rest/v1/slow")
        assert (response.status_code, response.json()["code"]) == (503, "57014")
        assert "retry-after" in response.headers
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


def test_tables_of_another_schema_have_its_name(postgres_url: str) -> None:
    db = SQLAlchemy(postgres_url)
    with db.engine.begin() as connection:
        for statement in (
            "CREATE SCHEMA sales",
            "CREATE TABLE sales.person (id INT PRIMARY KEY)",
            "INSERT INTO sales.person VALUES (7)",
        ):
            connection.execute(sa.text(statement))
    app = FastAPI()
    postgrest.mount(app, tables=reflect(db, schema="sales", write=True))
    with TestClient(app) as client:
        for headers in ({}, {"accept-profile": "sales"}):
            assert client.get("/rest/v1/person", headers=headers).json() == [{"id": 7}]
        response = client.get("/rest/v1/person", headers={"accept-profile": "public"})
        assert (response.status_code, response.json()["code"]) == (406, "PGRST106")
        response = client.post("/rest/v1/person", json={"id": 8}, headers={"content-profile": "public"})
        assert response.json()["code"] == "PGRST106"
        assert client.post("/rest/v1/person", json={"id": 8}, headers={"content-profile": "sales"}).status_code == 201
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()
