"""Whatever is sent, the answer is a 4xx or a 2xx with sense in it, the same on every database; refused requests cost no
connection, and what raw SQL has left in a table is served all the same."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.rest.conftest import declare
from tests.support.client import TestClient

JSON = {"content-type": "application/json"}
MODELS = ("authors", "books", "tags", "pairs", "things")
TEXTS = [
    "",
    " ",
    "%00",
    "%FF",
    "%ED%A0%80",
    "a%00b",
    "'",
    '"',
    "1;DROP TABLE book",
    "1' OR '1'='1",
    "1) UNION SELECT 1--",
    "0x10",
    "1e400",
    "-0",
    "NaN",
    "Infinity",
    "9" * 30,
    "9" * 5000,
    "١٢",
    "null",
    "true",
    "[]",
    "{}",
    "%E2%80%AE",
    "🐎",
    "a" * 3000,
    "2026-02-30",
    "0000-00-00",
    "10000-01-01",
    "2026-01-01T25:00:00",
    "../../etc/passwd",
    "%2e%2e%2f",
    "\\",
    "~",
    "~ZZ",
    "~FF",
    ",",
    ",,",
    "*",
    "${7*7}",
]
NAMES = ["id", "name", "title", "price", "pages", "left", "ratio", "instant", "data", "color", "extra", "span", "flag"]
OPERATORS = ["", "__ne", "__gt", "__in", "__not_in", "__between", "__like", "__icontains", "__isnull", "__nope", ".eq"]
RESERVED = ["q", "filter", "sort", "limit", "offset", "cursor", "fields", "include", "count"]
TREES = [
    "{",
    "[]",
    "null",
    '{"or":[]}',
    '{"or":{}}',
    '{"not":[]}',
    '{"nope":1}',
    '{"id":{"nope":1}}',
    '{"id":[1,2]}',
    '{"id__in":[]}',
    '{"and":[{"or":[{"not":{"id":1}}]}]}',
    '{"not":' * 200 + "1" + "}" * 200,
    "[" * 100_000,
    '{"id":1e400}',
    '{"id":NaN}',
    '{"name":"\\u0000"}',
    '{"name":"\\ud800"}',
]
VALUES: list[str] = [
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1e400",
    "NaN",
    "-Infinity",
    "9" * 25,
    '""',
    '"x"',
    '"\\u0000"',
    '"\\ud800"',
    '"2026-02-30"',
    '"0001-01-01T00:00:00+23:59"',
    '"9999-12-31T23:59:59-23:59"',
    "[]",
    "{}",
    "[" * 5000 + "]" * 5000,
    json.dumps("a" * 5000),
    '"' + "9" * 400 + '"',
    '"1E+100000"',
    '"\U0001f40e"',
    '"\u202e"',
]


def requests() -> Iterator[tuple[str, str, str | None]]:
    for model in MODELS:
        for text in TEXTS:
            for method in ("GET", "DELETE"):
                yield method, f"/{model}/{text}", None
        for name, value in itertools.product([*NAMES, "nope", "__proto__"], VALUES):
            body = f'{{"{name}": {value}}}'
            yield "POST", f"/{model}", body
            yield "PATCH", f"/{model}/1", body
        for name, operator in itertools.product(NAMES, OPERATORS):
            for text in TEXTS:
                yield "GET", f"/{model}?{name}{operator}={text}", None
        for name, text in itertools.product(RESERVED, [*TEXTS, *TREES]):
            yield "GET", f"/{model}?{name}={text}", None
        for text in TREES:
            yield "GET", f"/{model}?filter={text}", None
        for text in TEXTS[:20]:
            yield "POST", f"/{model}/-/upsert?on_conflict={text}", "{}"


NO_ROUTE = {"detail": "Not Found"}
"""The answer of the application where no generated route has the path, such as one of three segments."""

SEED = 20
CORPUS = [item for item in requests() if len(item[1]) < 60_000]
random.Random(SEED).shuffle(CORPUS)


def send(client: Any, method: str, path: str, body: str | None) -> Any:
    headers = {"content-type": "application/json"} if body is not None else {}
    return client.request(method, path, content=None if body is None else body.encode(), headers=headers)


_answers: dict[tuple[str, str, str | None], dict[int, str]] = {}


def test_r26_a_malformed_request_is_answered_alike_everywhere(
    shop: Any, size: Callable[[int, int], int], figure: Callable[..., None]
) -> None:
    shop.insert("Author", {"id": 1, "name": "Ann"})
    shop.insert("Book", {"id": 1, "title": "t", "pages": 1})
    shop.insert("Tag", {"id": 1, "name": "t"})
    n, failures = size(330, 3_000), 0
    for item in CORPUS[:n]:
        response = send(shop.client, *item)
        assert response.status_code < 500, (item, response.text)
        if response.status_code >= 400 and response.json() != NO_ROUTE:
            assert response.headers["content-type"] == "application/problem+json", item
            problem = response.json()
            assert problem["status"] == response.status_code
            for word in ("Traceback", "sqlalchemy", "SELECT", "INSERT INTO", "psycopg", "sqlite3"):
                assert word not in problem["detail"], item
        statuses = _answers.setdefault(item, {})
        statuses.setdefault(response.status_code, shop.url[:10])
        failures += len(statuses) > 1
        assert len(statuses) == 1, (item, statuses, response.text)
        shop.empty_if_changed(item[0], response)
    figure("R26", variant=shop.variant, n=n, seed=SEED, failures=failures)


REFUSED: list[tuple[str, str, str | None]] = [
    ("get", "/books?nope=1", None),
    ("get", "/books?cursor=abc", None),
    ("get", "/books?limit=0", None),
    ("get", "/books/abc", None),
    ("get", "/pairs/a", None),
    ("get", "/books/99999999999", None),
    ("post", "/books", "{"),
    ("post", "/books", "{}"),
    ("patch", "/books/1", '{"nope":1}'),
    ("delete", "/books", None),
    ("delete", "/counters/1", None),
    ("post", "/books/-/upsert?on_conflict=title", "{}"),
    ("get", "/books/-/aggregate?sum=title", None),
    ("put", "/books", "{}"),
    ("get", "/nothing", None),
    ("post", "/books", '{"title":"' + "x" * 1024 * 1024 + '"}'),
    ("post", "/notes", '{"text":"x"}'),
]


def test_r30_a_refused_request_takes_no_connection(
    shop: Any, size: Callable[[int, int], int], figure: Callable[..., None]
) -> None:
    turns, taken = REFUSED * size(1, 10), list[Any]()

    def note(*_: Any) -> None:
        taken.append(item)

    engines = shop.engines()
    for engine in engines:
        sa.event.listen(engine.pool, "checkout", note)
    try:
        for item in turns:
            assert 400 <= send(shop.client, *item).status_code < 500, item
    finally:
        for engine in engines:
            sa.event.remove(engine.pool, "checkout", note)
    figure("R30", variant=shop.variant, n=len(turns), failures=len(taken))
    assert taken == []


@pytest.mark.parametrize(
    ("query", "name", "bound"),
    [
        ("limit={}", "limit", 500),
        ("offset={}", "offset", 1_000_000_000),
    ],
)
def test_a_bound_of_a_page_holds_at_n_and_past_it(shop: Any, query: str, name: str, bound: int) -> None:
    assert shop.client.get(f"/books?{query.format(bound)}").status_code == 200
    assert shop.client.get(f"/books?{query.format(bound + 1)}").status_code == 422


def test_every_limit_holds_at_n_and_past_it(shop: Any) -> None:
    client = shop.client

    def statuses(ask: Callable[[int], Any], bound: int) -> tuple[int, int]:
        return ask(bound).status_code, ask(bound + 1).status_code

    def deep(number: int) -> str:
        return '{"not":' * number + '{"id":1}' + "}" * number

    assert statuses(lambda n: client.get("/books?id__in=" + ",".join("1" for _ in range(n))), 500) == (200, 422)
    assert statuses(lambda n: client.get("/authors?include=" + ".".join(["books", "author", "books"][:n])), 2) == (
        200,
        422,
    )
    assert statuses(lambda n: client.get("/books", params={"filter": deep(n)}), 7) == (200, 422)
    assert statuses(lambda n: client.post("/books", json=[{"title": "t"}] * n), 50) == (201, 422)
    start, end = b'{"title": "t"', b"}"

    def sized(number: int) -> Any:
        return client.post("/books", content=start + b" " * (number - len(start + end)) + end, headers=JSON)

    assert statuses(sized, 1024 * 1024) == (201, 413)
    nested = {"extra": json.loads("[" * 31 + "]" * 31)}
    accepted = client.post("/things", json=nested)
    assert accepted.status_code == 201, accepted.text
    assert client.post("/things", json={"extra": [nested["extra"]]}).status_code == 422


HOSTILE_SQLITE = [
    ("day", "'not a date'"),
    ("day", "x'ff00'"),
    ("at", "'31.12.1999'"),
    ("clock", "'25:61'"),
    ("instant", "'2026-13-01 00:00:00.000000'"),
    ("color", "'GREEN'"),
    ("size", "'xxl'"),
    ("flag", "'perhaps'"),
    ("small", "'many'"),
    ("big", "1e300"),
    ("ratio", "9e999"),
    ("ratio", "'abc'"),
    ("amount", "'abc'"),
    ("amount", "-9e999"),
    ("text", "x'fffe00'"),
    ("text", "CAST(x'ff41' AS TEXT)"),
    ("data", "'text in a blob'"),
    ("data", "5"),
    ("extra", "'{not json'"),
    ("extra", "'NaN'"),
    ("extra", "'" + "[" * 3000 + "]" * 3000 + "'"),
    ("span", "'later'"),
    ("span", "-1"),
]


@pytest.fixture
def raw(tmp_path: Any) -> Iterator[tuple[Any, TestClient]]:
    db = SQLAlchemy(f"sqlite:///{tmp_path}/raw.db")
    models = declare(db)
    with db.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE thing (id CHAR(32) PRIMARY KEY, flag, small, big, ratio, amount, text, data, color, size, "
            "day, clock, at, instant, span, token_count, extra)"
        )
        connection.exec_driver_sql(f"INSERT INTO thing (id, small) VALUES ('{'0' * 31}1', 7)")
    app = FastAPI()
    app.include_router(CRUDRouter(models["Thing"], db=db, prefix="/things", use_async=False))
    yield db, TestClient(app)
    db.dispose()


@pytest.mark.parametrize(("column", "value"), HOSTILE_SQLITE)
def test_a_hostile_value_is_served(raw: tuple[Any, TestClient], column: str, value: str) -> None:
    db, client = raw
    key = "00000000-0000-0000-0000-000000000002"
    with db.engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO thing (id, \"{column}\") VALUES ('{key.replace('-', '')}', {value})")
    for accept in ("application/json", "text/csv", "application/x-ndjson"):
        for path in ("/things", f"/things?sort={column}" if column != "extra" else "/things"):
            response = client.get(path, headers={"accept": accept})
            assert response.status_code == 200, response.text
    rows = client.get("/things").json()
    assert [row["id"][-1] for row in rows] == ["1", "2"]
    assert rows[0]["small"] == 7
    one = client.get(f"/things/{key}")
    assert one.status_code == 200
    assert one.json() == rows[1]
    assert client.get(f"/things/{key}?fields=id,{column}").status_code == 200
    assert client.patch(f"/things/{key}", json={"token_count": 1}).status_code == 422
    assert client.patch(f"/things/{key}", json={"size": "s"}).status_code == 200
    assert client.delete(f"/things/{key}").status_code == 200


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("day", "'infinity'"),
        ("day", "'0044-03-15 BC'"),
        ("at", "'-infinity'"),
        ("instant", "'infinity'"),
        ("span", "'178000000 years'"),
        ("ratio", "'NaN'"),
        ("ratio", "'Infinity'"),
        ("amount", "'NaN'"),
        ("extra", "'{\"a\": 1e400}'"),
        ("clock", "'24:00:00'"),
    ],
)
def test_a_value_that_python_has_no_form_for_is_served(shop: Any, column: str, value: str) -> None:
    if not shop.url.startswith("postgresql"):
        pytest.skip("only PostgreSQL has such values")
    key = "00000000-0000-0000-0000-000000000002"
    with shop.db.engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO thing (id, {column}) VALUES ('{key}', {value})")
    for path in ("/things", f"/things/{key}"):
        for accept in ("application/json", "text/csv"):
            response = shop.client.get(path, headers={"accept": accept})
            assert response.status_code == 200, response.text
    assert shop.client.delete(f"/things/{key}").status_code == 200
