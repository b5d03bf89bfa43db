"""Every sample database is served whole: every table and view, every row, every page, in every form."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import functools
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.pool import NullPool

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest.reflect import Reflection, reflect
from tests.support.client import TestClient
from tests.support.databases import server_url, temporary_database
from tests.support.openapi import validate
from tests.support.samples import load_mariadb, load_postgresql, sqlite_copy

SAMPLES = {
    "chinook-sqlite": "chinook/Chinook_Sqlite.sqlite",
    "chinook-postgresql": "chinook/Chinook_PostgreSql.sql",
    "chinook-mariadb": "chinook/Chinook_MySql.sql",
    "northwind-sqlite": "northwind/northwind.db",
    "world-sqlite": "world/world.sqlite",
    "world-postgresql": "world/world-pg.sql",
    "pagila-postgresql": "pagila/pagila.sql",
}
UNREADABLE = {"pagila-postgresql": {"rental_by_category"}}
COUNTS = {
    "chinook-sqlite": (11, 0, 15_607),
    "chinook-postgresql": (11, 0, 15_607),
    "chinook-mariadb": (11, 0, 15_607),
    "northwind-sqlite": (13, 16, 3_310),
    "world-sqlite": (3, 0, 5_302),
    "world-postgresql": (3, 0, 5_302),
    "pagila-postgresql": (22, 8, None),
}
SECRETS = {"staff": {"password"}}
_FORMULA = re.compile(r"^'(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,6})?")

Cell = tuple[str, str] | None
Row = tuple[Cell, ...]


class Sample:
    """One sample behind an application, and its own rows as the driver gives them."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.db = SQLAlchemy(url)
        self.reflection: Reflection = reflect(self.db)
        app = FastAPI()
        for router in self.reflection.routers():
            app.include_router(router)
        self.client = TestClient(app)
        driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
        parsed = sa.make_url(url)
        self.engine = sa.create_engine(
            parsed.set(drivername=driver.get(parsed.drivername, parsed.drivername)), poolclass=NullPool
        )
        self._rows: dict[str, tuple[list[str], list[tuple[Any, ...]]]] = {}
        self._expected: dict[str, Counter[Row]] = {}

    def rows(self, table: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The columns that are served and the rows, straight from the driver."""
        if table not in self._rows:
            preparer = self.engine.dialect.identifier_preparer
            with self.engine.connect() as connection:
                cursor = connection.exec_driver_sql(f"SELECT * FROM {preparer.quote_identifier(table)}")
                names = list(cursor.keys())
                served = [place for place, name in enumerate(names) if name not in SECRETS.get(table, ())]
                rows = [tuple(row[place] for place in served) for row in cursor]
            self._rows[table] = ([names[place] for place in served], rows)
        return self._rows[table]

    def expected(self, table: str) -> Counter[Row]:
        """The rows in the one form in which they are compared."""
        if table not in self._expected:
            rows = self.rows(table)[1]
            numeric = _numeric_columns(rows)
            self._expected[table] = Counter(_row(row, numeric) for row in rows)
        return self._expected[table]

    def readable(self) -> list[str]:
        return [item.name for item in self.reflection.served if item.name not in UNREADABLE.get(self.name, ())]


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    with _loaded(request.param, tmp_path_factory.mktemp("samples")) as url:
        found = Sample(request.param, url)
        with found.client:
            yield found
            assert found.client.portal is not None
            found.client.portal.call(found.db.adispose)
        found.db.dispose()


def test_every_table_and_view_is_served_and_counted(sample: Sample) -> None:
    tables, views, total = COUNTS[sample.name]
    kinds = Counter("view" if item.entry.is_view else "table" for item in sample.reflection.served)
    assert (kinds["table"], kinds["view"], sample.reflection.skipped) == (tables, views, [])
    counted = 0
    for item in sample.reflection.served:
        if item.name in sample.readable():
            answer = sample.client.get(item.path, params={"limit": 1, "count": "exact"})
            assert int(answer.headers["X-Total-Count"]) == len(sample.rows(item.name)[1]), item.name
            counted += 0 if item.entry.is_view else int(answer.headers["X-Total-Count"])
    assert total is None or counted == total


def test_the_openapi_document_is_valid_and_names_every_route(sample: Sample) -> None:
    document = sample.client.get("/openapi.json").json()
    validate(document)
    assert {item.path for item in sample.reflection.served} <= set(document["paths"])


@pytest.mark.parametrize("style", ["offset", "cursor"])
def test_all_pages_together_are_the_rows_of_the_database(sample: Sample, style: str) -> None:
    for item in sample.reflection.served:
        if item.name not in sample.readable():
            continue
        names, expected = sample.rows(item.name)
        found = list(_pages(sample.client, item.path, style, len(expected)))
        assert all(list(row) == names for row in found), item.name
        numeric = _numeric_columns(expected)
        actual = Counter(_row(tuple(row.values()), numeric) for row in found)
        assert actual == sample.expected(item.name), f"{item.name} by {style}"


def test_every_row_is_answered_by_its_own_path(sample: Sample) -> None:
    document = sample.client.get("/openapi.json").json()
    for item in sample.reflection.served:
        if item.resource is None or not item.resource.key:
            assert f"{item.path}/{{pk}}" not in document["paths"]
            continue
        for row in sample.client.get(item.path, params={"limit": 3}).json():
            key = ",".join(_escape(str(row[field.name])) for field in item.resource.key)
            assert sample.client.get(f"{item.path}/{key}").json() == row, f"{item.path}/{key}"


def test_csv_holds_every_row(sample: Sample) -> None:
    for name in sample.readable():
        item = next(item for item in sample.reflection.served if item.name == name)
        names, expected = sample.rows(name)
        answer = sample.client.get(item.path, headers={"Accept": "text/csv"})
        assert answer.headers["content-type"].startswith("text/csv")
        header, *lines = csv.reader(io.StringIO(answer.text, newline=""))
        assert header == names
        numeric = _numeric_columns(expected)
        actual = Counter(_row(tuple(_uncsv(cell) for cell in line), numeric) for line in lines)
        wanted = Counter(_row(tuple(_csv(cell) for cell in row), numeric) for row in expected)
        assert actual == wanted, name


def test_ndjson_holds_every_row(sample: Sample) -> None:
    for name in sample.readable():
        item = next(item for item in sample.reflection.served if item.name == name)
        names, expected = sample.rows(name)
        answer = sample.client.get(item.path, headers={"Accept": "application/x-ndjson"})
        found = [json.loads(line) for line in answer.content.splitlines()]
        assert all(list(row) == names for row in found)
        numeric = _numeric_columns(expected)
        actual = Counter(_row(tuple(row.values()), numeric) for row in found)
        assert actual == sample.expected(name), name


def test_a_view_that_cannot_be_selected_is_a_clean_problem_on_its_own_route(sample: Sample) -> None:
    for name in UNREADABLE.get(sample.name, ()):
        item = next(item for item in sample.reflection.served if item.name == name)
        assert item.problem is not None
        for accept in ("application/json", "text/csv", "application/x-ndjson"):
            answer = sample.client.get(item.path, headers={"Accept": accept})
            assert 500 <= answer.status_code < 600
            assert answer.headers["content-type"] == "application/problem+json"
            assert "SELECT" not in answer.text
            assert "Traceback" not in answer.text
            assert set(answer.json()) >= {"type", "title", "status", "detail", "code"}
        assert "500" in sample.client.get("/openapi.json").json()["paths"][item.path]["get"]["responses"]


@contextmanager
def _loaded(name: str, folder: Path) -> Iterator[str]:
    backend = name.partition("-")[2]
    if backend == "sqlite":
        yield f"sqlite:///{sqlite_copy(SAMPLES[name], folder)}"
        return
    if server_url(backend) is None:
        pytest.skip(f"NO {backend.upper()} SERVER TAKES PART (see CONTRIBUTING.md, Databases)")
    with temporary_database(backend) as url:
        load = load_mariadb if backend == "mariadb" else load_postgresql
        load(SAMPLES[name], url)
        yield url


def _pages(client: TestClient, path: str, style: str, rows: int) -> Iterator[dict[str, Any]]:
    """Follow the links from page to page; pages are short where there are few rows."""
    limit = 500 if rows > 1000 else max(1, rows // 3)
    first = {"limit": limit, "cursor": ""} if style == "cursor" else {"limit": limit, "offset": 0}
    answer = client.get(path, params=first)
    seen: set[str] = set()
    while True:
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page) <= limit
        yield from page
        following = answer.links.get("next", {}).get("url")
        if following is None:
            return
        assert len(page) == limit
        assert (style == "cursor") is ("cursor=" in following)
        assert following not in seen
        seen.add(following)
        answer = client.get(following)


def _numeric_columns(rows: list[tuple[Any, ...]]) -> tuple[bool, ...]:
    """Which columns hold numbers, so that ``"0.99"`` and ``0.99`` are one value in them."""
    kinds = (int, float, Decimal)
    return tuple(any(isinstance(cell, kinds) for cell in column) for column in zip(*rows, strict=True))


def _row(row: tuple[Any, ...], numeric: tuple[bool, ...]) -> Row:
    return tuple(_cell(cell, number) for cell, number in zip(row, numeric, strict=True))


def _cell(value: Any, is_number: bool) -> Cell:
    """One form for a value of a driver and for the JSON or text that it is served as."""
    if isinstance(value, (str, int, float, Decimal, type(None))):
        return _scalar(value, is_number)
    if isinstance(value, (bytes, memoryview)):
        return "text", base64.b64encode(bytes(value)).decode()
    if isinstance(value, (dt.datetime, dt.date)):
        return "text", value.isoformat()
    return ("text", json.dumps(value)) if isinstance(value, list) else _scalar(str(value), is_number)


@functools.lru_cache(200_000, typed=True)
def _scalar(value: str | float | Decimal | None, is_number: bool) -> Cell:
    if value is None:
        return None
    if isinstance(value, (int, float, Decimal)) or is_number:
        try:
            return "number", format(Decimal(str(int(value) if isinstance(value, bool) else value)).normalize(), "f")
        except InvalidOperation:
            return "text", str(value)
    if _MOMENT.fullmatch(value):
        return "text", dt.datetime.fromisoformat(value).isoformat()
    # views of Pagila join names in whatever order the plan of the moment gives them
    return "text", ", ".join(sorted(value.split(", ")))


def _csv(value: Any) -> Any:
    """A value of a driver as a cell can hold it: nothing tells NULL from the empty text."""
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":"))
    return None if value == "" else value


def _uncsv(cell: str) -> Any:
    if cell in ("true", "false"):
        return cell == "true"
    return None if cell == "" else _FORMULA.sub("", cell)


def _escape(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.@:-]", lambda found: "".join(f"~{byte:02X}" for byte in found.group().encode()), text)
