"""The short way of reads answers byte for byte as the ordinary path, over every type of column and hostile values."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy.engines import live_engines
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.rest.conftest import VARIANTS, Color
from tests.rest.conftest import Shop as OwnedShop

FULL: dict[str, Any] = {
    "flag": True,
    "small": -(2**15),
    "big": 2**63 - 1,
    "ratio": 0.1 + 0.2,
    "amount": Decimal("12345678.0001"),
    "text": 'nul? no. "quotes" \\ back, </script>, \u2028 line, \U0001f600 face, e\u0301',
    "data": bytes(range(64)),
    "color": Color.BLUE,
    "size": "m",
    "day": dt.date(9999, 12, 31),
    "clock": dt.time(23, 59, 59),
    "at": dt.datetime.fromisoformat("1000-01-01T00:00:01"),
    "instant": dt.datetime(2026, 2, 28, 12, 0, tzinfo=dt.UTC),
    "span": dt.timedelta(days=3, hours=4, seconds=5),
    "token_count": 0,
    "extra": {"deep": [1, 2.5, None, {"x": "\u00e4"}], "big": 2**60},
}
NULLS: dict[str, Any] = dict.fromkeys(FULL)
ZEROS: dict[str, Any] = {
    **NULLS,
    "flag": False,
    "small": 0,
    "big": -(2**63),
    "ratio": -0.0,
    "amount": Decimal("0.0000"),
    "text": "",
    "data": b"",
    "day": dt.date(1000, 1, 1),
    "clock": dt.time(0, 0),
    "at": dt.datetime.fromisoformat("9999-12-31T23:59:59"),
    "span": dt.timedelta(0),
    "extra": [],
}
ROWS = [{"id": uuid.UUID(int=number + 1), **values} for number, values in enumerate((FULL, NULLS, ZEROS))]
LISTS = [
    "",
    "?limit=2",
    "?limit=1&count=exact",
    "?count=exact&offset=1&limit=1",
    "?sort=-big,ratio&limit=2",
    "?sort=text.nullsfirst&limit=1",
    "?sort=amount&limit=1",
    "?sort=-at&limit=1",
    "?sort=data&limit=1",
    "?flag=true&big__gte=-5&day__lte=9999-12-31",
    "?small__in=0,-32768&limit=5",
    "?text__icontains=QUOTES",
    "?q=face",
    "?color=blue&size__ne=s",
    "?extra__isnull=true&count=exact",
    "?filter=%7B%22or%22%3A%5B%7B%22small%22%3A0%7D%2C%7B%22flag%22%3Atrue%7D%5D%7D",
    "?offset=999&count=exact",
    "?fields=id,big,instant",
    "?limit=0",
    "?nothing=1",
]


@pytest.fixture(scope="module", params=[v for v in VARIANTS if v != ("sqlite", "async")], ids="-".join)
def running(request: pytest.FixtureRequest, databases: dict[str, str]) -> Iterator[Shop]:
    name, mode = request.param
    if name not in databases:
        pytest.skip(f"no {name} server takes part")
    yield from started(databases[name], mode)


def started(url: str, mode: str) -> Iterator[Shop]:
    shop = Shop(url, mode)
    shop.db.drop_all(confirmed=True)
    shop.db.create_all()
    with shop.client:
        yield shop
        assert shop.client.portal is not None
        shop.client.portal.call(shop.db.adispose)
    shop.db.drop_all(confirmed=True)
    shop.db.dispose()


class Shop(OwnedShop):
    """The shop without rows that have owners, for which relations are read by the ordinary path."""

    def add_routes(self) -> None:
        for name, prefix in (("Thing", "things"), ("Pair", "pairs"), ("Author", "authors"), ("Book", "books")):
            router = CRUDRouter(self.models[name], db=self.db, use_async=self.use_async, prefix=f"/{prefix}")
            self.app.include_router(router)


@pytest.fixture
def shop(running: Shop) -> Shop:
    running.empty()
    return running


@contextmanager
def overheard(shop: Shop) -> Iterator[None]:
    """Somebody listens to the engines: everything takes the ordinary path."""

    def listener(*_arguments: Any) -> None:
        return None

    engines = list(live_engines())
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", listener)
    try:
        yield
    finally:
        for engine in engines:
            sa.event.remove(engine, "before_cursor_execute", listener)


def answer(shop: Shop, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    response = shop.client.get(path, headers=headers)
    return response.status_code, dict(response.headers), response.content


def assert_same(shop: Shop, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """The answer of the short way (the second request finds all prepared), the same as that of the ordinary path."""
    answer(shop, path, **headers)
    short = answer(shop, path, **headers)
    with overheard(shop):
        ordinary = answer(shop, path, **headers)
    assert short == ordinary
    return short


@pytest.mark.parametrize("query", LISTS)
def test_a_list_is_the_same(shop: Shop, query: str) -> None:
    shop.insert("Thing", *ROWS)
    assert_same(shop, f"/things{query}")


def test_every_page_by_cursor_is_the_same(shop: Shop) -> None:
    shop.insert("Thing", *ROWS)
    for sort in ("big", "-ratio", "text", "at.nullsfirst", "amount", "span", "day"):
        path, pages = f"/things?limit=1&sort={sort}", 0
        while path:
            _, headers, _ = assert_same(shop, path)
            links = dict(reversed(part.strip().split("; ")) for part in headers.get("link", "").split(",") if part)
            path = links.get('rel="next"', "").strip("<>")
            pages += 1
        assert pages == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=["full", "nulls", "zeros"])
def test_one_row_is_the_same(shop: Shop, row: dict[str, Any]) -> None:
    shop.insert("Thing", *ROWS)
    path = f"/things/{row['id']}"
    status, headers, _ = assert_same(shop, path)
    assert status == 200
    assert assert_same(shop, path, **{"If-None-Match": headers["etag"]})[0] == 304
    assert assert_same(shop, path, **{"If-None-Match": '"another"'})[0] == 200


@pytest.mark.parametrize("path", ["/things/not-a-key", f"/things/{uuid.UUID(int=99)}", "/pairs/a,1", "/pairs/a", "/x"])
def test_a_refusal_is_the_same(shop: Shop, path: str) -> None:
    assert assert_same(shop, path)[0] in (404, 422)


def test_a_composite_key_is_the_same(shop: Shop) -> None:
    shop.insert("Pair", {"left": "a/b, c~d", "right": -7, "value": None})
    assert assert_same(shop, "/pairs/a~2Fb~2C~20c~7Ed,-7")[0] == 200


STORED = [
    ("day", "'not a date'"),
    ("day", "17"),
    ("at", "'2026-13-45 99:00:00'"),
    ("clock", "x'ff00'"),
    ("small", "'many'"),
    ("big", "1.5"),
    ("ratio", "'NaN'"),
    ("ratio", "9e999"),
    ("ratio", "7"),
    ("amount", "'text'"),
    ("flag", "7"),
    ("text", "x'c328'"),
    ("text", "cast(x'c328' as text)"),
    ("text", "42"),
    ("data", "'text'"),
    ("color", "'green'"),
    ("extra", "'{broken'"),
    ("extra", "'[NaN, 1e400]'"),
    ("span", "'soon'"),
]


@pytest.mark.parametrize(("column", "literal"), STORED)
def test_what_a_raw_statement_stored_in_sqlite_is_the_same(shop: Shop, column: str, literal: str) -> None:
    if not shop.url.startswith("sqlite"):
        return
    shop.insert("Thing", *ROWS)
    with shop.db.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE thing SET {column} = {literal}")
    for path in ("/things", "/things?limit=1&count=exact", f"/things/{uuid.UUID(int=1)}"):
        assert assert_same(shop, path)[0] == 200


@pytest.mark.parametrize(
    ("column", "literal"),
    [
        ("day", "'infinity'"),
        ("at", "'-infinity'"),
        ("instant", "'infinity'"),
        ("day", "'4713-01-01 BC'"),
        ("ratio", "'NaN'"),
        ("ratio", "'-Infinity'"),
        ("span", "'1000000 years'"),
        ("span", "'1 mon -3 days'"),
        ("clock", "'24:00:00'"),
        ("extra", "'1e400'"),
    ],
)
def test_what_a_raw_statement_stored_in_postgresql_is_the_same(shop: Shop, column: str, literal: str) -> None:
    if not shop.url.startswith("postgresql"):
        return
    shop.insert("Thing", *ROWS)
    with shop.db.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE thing SET {column} = {literal}")
    for path in ("/things", "/things?limit=1&count=exact", f"/things/{uuid.UUID(int=1)}"):
        assert assert_same(shop, path)[0] == 200


@pytest.fixture(scope="module")
def asyncpg_shop(databases: dict[str, str]) -> Iterator[Shop]:
    if "postgresql" not in databases:
        pytest.skip("no postgresql server takes part")
    yield from started(databases["postgresql"].replace("postgresql://", "postgresql+asyncpg://"), "async")


RELATED = [
    "/authors?include=books&limit=2",
    "/authors?include=books&count=exact&sort=-name",
    "/books?include=author&limit=3",
    "/books?include=author,tags&sort=title",
    "/books?include=author.books&limit=2",
    "/authors?include=books&name__startswith=nobody",
    "/authors?books.pages__gte=2&include=books",
    "/authors/1?include=books",
]


def fill_related(shop: Shop) -> None:
    shop.insert("Author", *({"id": n, "name": f"a{n}", "born": dt.date(2000, 1, n)} for n in (1, 2, 3)))
    books = [
        {"id": n, "title": f"t{n}", "author_id": (1, 2, None)[n % 3], "price": Decimal(n), "pages": n}
        for n in range(1, 9)
    ]
    shop.insert("Book", *books)
    shop.insert("Tag", {"id": 1, "name": "x"}, {"id": 2, "name": "y"})
    with shop.db.engine.begin() as connection:
        labels = shop.db.metadata.tables["label"]
        connection.execute(sa.insert(labels), [{"book_id": n, "tag_id": 1 + n % 2} for n in range(1, 6)])


@pytest.mark.parametrize("path", RELATED)
def test_a_list_with_what_belongs_to_its_rows_is_the_same(shop: Shop, path: str) -> None:
    fill_related(shop)
    assert assert_same(shop, path)[0] == 200


def test_more_children_than_are_answered_are_the_same_ones(shop: Shop) -> None:
    shop.insert("Author", {"id": 1, "name": "a"}, {"id": 2, "name": "b"})
    shop.insert("Book", *({"id": n, "title": "t", "author_id": 1, "pages": n} for n in range(1, 121)))
    assert assert_same(shop, "/authors?include=books")[0] == 200


def test_asyncpg_answers_the_same(asyncpg_shop: Shop) -> None:
    shop = asyncpg_shop
    shop.empty()
    fill_related(shop)
    for path in RELATED:
        assert_same(shop, path)
    shop.insert("Thing", *ROWS)
    for query in LISTS:
        assert_same(shop, f"/things{query}")
    for row in ROWS:
        assert assert_same(shop, f"/things/{row['id']}")[0] == 200
    with shop.db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE thing SET day = 'infinity', ratio = 'NaN', span = '1 mon -3 days'")
    for path in ("/things", "/things?sort=-span&limit=1", f"/things/{uuid.UUID(int=1)}"):
        assert assert_same(shop, path)[0] == 200
