"""A list whose rows no key tells apart: every row once by cursor, as many times as it is stored."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import reflect
from tests.support.client import TestClient

ROWS = [(n % 3 or None, "abc"[n % 3] if n % 4 else None) for n in range(60)]


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    """A table without a key, full of equal rows and NULLs, and a view of it."""
    db = SQLAlchemy(database_url)
    table = sa.Table("entry", sa.MetaData(), sa.Column("number", sa.Integer), sa.Column("letter", sa.String(5)))
    table.metadata.create_all(db.engine)
    with db.engine.begin() as connection:
        connection.execute(table.insert(), [{"number": number, "letter": letter} for number, letter in ROWS])
        connection.execute(sa.text("CREATE VIEW entries AS SELECT letter, number FROM entry"))
    yield from served(db)


def served(db: SQLAlchemy) -> Iterator[TestClient]:
    app = FastAPI()
    for router in reflect(db).routers():
        app.include_router(router)
    with TestClient(app) as client:
        yield client
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


def walk(client: TestClient, path: str, relation: str = "next") -> list[list[Any]]:
    pages, url = [], path
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        url = answer.links.get(relation, {}).get("url", "")
    return pages


QUERIES = ["", "&sort=letter", "&sort=-number", "&sort=letter.nullsfirst,-number", "&number=1"]


@pytest.mark.parametrize("path", ["/entry", "/entries"])
def test_a_walk_by_cursor_gives_every_row_as_often_as_it_is_stored(client: TestClient, path: str) -> None:
    for limit, query in itertools.product([1, 7, 25], QUERIES):
        whole = client.get(f"{path}?limit=500{query}").json()
        pages = walk(client, f"{path}?limit={limit}&cursor={query}")
        assert [row for page in pages for row in page] == whole, (limit, query)
        stored = Counter(ROWS) if not query.startswith("&number") else Counter(row for row in ROWS if row[0] == 1)
        assert Counter((row["number"], row["letter"]) for row in whole) == stored, (limit, query)
        assert all(len(page) == limit for page in pages[:-1]), (limit, query)


@pytest.mark.backends("sqlite")
def test_rows_that_come_and_go_before_the_place_move_nothing(client: TestClient, sqlite_file: sa.Engine) -> None:
    seen = client.get("/entry?limit=20&cursor=")
    with sqlite_file.begin() as connection:
        connection.execute(sa.text("INSERT INTO entry VALUES (0, 'a'), (0, 'b')"))
    rest = walk(client, seen.links["next"]["url"])
    assert seen.json() + [row for page in rest for row in page] == [
        row for row in client.get("/entry?limit=500").json() if row["number"] != 0
    ]


@pytest.fixture
def sqlite_file(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


def test_lines_of_every_row_take_more_than_one_chunk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_sqlalchemy.rest.operations.export.CHUNK", 7)
    answer = client.get("/entry", headers={"accept": "application/x-ndjson"})
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert Counter((row["number"], row["letter"]) for row in rows) == Counter(ROWS)


def test_keys_of_sqlite_that_hold_null_more_than_once_lose_no_row(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)
    with db.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE pair (a TEXT, b TEXT, PRIMARY KEY (a, b))"))
        rows = [{"a": a, "b": b} for a, b in [(None, None)] * 5 + [("x", None)] * 5 + [("x", "y"), (None, "z")]]
        connection.execute(sa.text("INSERT INTO pair VALUES (:a, :b)"), rows)
    for client in served(db):
        for query in ("", "&sort=a", "&sort=-b"):
            found = [row for page in walk(client, f"/pair?limit=3&cursor={query}") for row in page]
            assert Counter((row["a"], row["b"]) for row in found) == Counter((row["a"], row["b"]) for row in rows)


def test_text_that_is_not_utf8_on_sqlite_is_listed_once(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)
    with db.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE raw (id INTEGER PRIMARY KEY, tx TEXT)"))
        for number in range(12):
            connection.execute(sa.text(f"INSERT INTO raw VALUES ({number}, CAST(X'FF{number:02x}' AS TEXT))"))
    for client in served(db):
        for sort in ("tx", "-tx", "id"):
            found = [row["id"] for page in walk(client, f"/raw?limit=5&cursor=&sort={sort}") for row in page]
            assert found == (list(range(12)) if sort != "-tx" else list(range(11, -1, -1)))
        lines = client.get("/raw?sort=-tx", headers={"accept": "application/x-ndjson"}).text.splitlines()
        assert [json.loads(line)["id"] for line in lines] == list(range(11, -1, -1))


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_dates_that_python_does_not_have_are_paged_on_postgresql(postgres_url: str, driver: str) -> None:
    url = postgres_url if driver == "psycopg" else sa.make_url(postgres_url).set(drivername="postgresql+asyncpg")
    db = SQLAlchemy(url)
    kinds = {"day": "date", "instant": "timestamptz", "moment": "timestamp", "length": "interval"}
    values = ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'2024-02-29'", "'12026-01-01'", "NULL"]
    columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
    rows = [f"({', '.join([value] * 3)}, '1 mon -2 days')" for value in values * 2]
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"CREATE TABLE era (id serial PRIMARY KEY, {columns})")
        connection.execute(f"INSERT INTO era (day, instant, moment, length) VALUES {', '.join(rows)}")
    for client in served(db):
        for name in kinds:
            whole = client.get(f"/era?sort={name}&limit=500")
            assert whole.status_code == 200, whole.text
            paged = [row["id"] for page in walk(client, f"/era?limit=2&cursor=&sort={name}") for row in page]
            assert paged == [row["id"] for row in whole.json()]
            back = walk(client, f"/era?limit=2&cursor=&sort=-{name}")
            assert Counter(row["id"] for page in back for row in page) == Counter(range(1, 13))
