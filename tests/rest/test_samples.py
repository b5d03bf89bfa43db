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
from collections.abc import Callable, Iterator, Sequence
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

Cell = str | None
Rows = dict[tuple[Cell, ...], int]


class Forms(dict[Any, Cell]):
    """The form of every value of a column, worked out once."""

    def __init__(self, form: Callable[[Any], Cell]) -> None:
        self._form = form

    def __missing__(self, value: Any) -> Cell:
        form = self[value] = self._form(value)
        return form


class Table:
    """The rows of a table or view as the driver gives them, in the forms in which they are compared."""

    def __init__(self, names: list[str], rows: list[tuple[Any, ...]]) -> None:
        self.names = names
        self.size = len(rows)
        kinds = [set(map(type, column)) for column in zip(*rows, strict=True)]
        # ``"0.99"`` and ``0.99`` are one value in a column of numbers
        numeric = [any(issubclass(kind, (int, float, Decimal)) for kind in found) for found in kinds]
        self._json = [Forms(functools.partial(_cell, is_number=number)) for number in numeric]
        self._csv = [Forms(lambda cell, forms=forms: forms[_uncsv(cell)]) for forms in self._json]
        self.as_json = _counted(rows, self._json)
        # nothing tells NULL from the empty text
        of_cells = [Forms(lambda value, forms=forms: None if value == "" else forms[value]) for forms in self._json]
        self.as_csv = _counted(rows, of_cells)

    def of_json(self, rows: list[tuple[Any, ...]]) -> Rows:
        """How often each row is among these."""
        return _counted(rows, self._json)

    def of_csv(self, lines: list[list[str]]) -> Rows:
        """How often each row is among these lines."""
        return _counted(lines, self._csv)


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
        self._tables: dict[str, Table] = {}

    def table(self, table: str) -> Table:
        """The columns that are served and the rows, straight from the driver."""
        if table not in self._tables:
            preparer = self.engine.dialect.identifier_preparer
            with self.engine.connect() as connection:
                cursor = connection.exec_driver_sql(f"SELECT * FROM {preparer.quote_identifier(table)}")
                names = list(cursor.keys())
                served = [place for place, name in enumerate(names) if name not in SECRETS.get(table, ())]
                rows = [tuple(row[place] for place in served) for row in cursor]
            self._tables[table] = Table([names[place] for place in served], rows)
        return self._tables[table]

    def readable(self) -> list[str]:
        return [item.name for item in self.reflection.served if item.name not in UNREADABLE.get(self.name, ())]


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(f"sample {name}")) for name in SAMPLES]
)
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
            assert int(answer.headers["X-Total-Count"]) == sample.table(item.name).size, item.name
            counted += 0 if item.entry.is_view else int(answer.headers["X-Total-Count"])
    assert total is None or counted == total


def test_names_are_plain_text_which_orjson_takes(sample: Sample) -> None:
    for item in sample.reflection.served:
        if item.resource is not None:
            fields, relations = item.resource.fields, item.resource.relations
            names = [*fields, *(field.name for field in fields.values()), *relations]
            names += [relation.name for relation in relations.values()]
            assert set(map(type, names)) == {str}, item.name


def test_the_openapi_document_is_valid_and_names_every_route(sample: Sample) -> None:
    document = sample.client.get("/openapi.json").json()
    validate(document)
    assert {item.path for item in sample.reflection.served} <= set(document["paths"])


@pytest.mark.parametrize("style", ["offset", "cursor"])
def test_all_pages_together_are_the_rows_of_the_database(sample: Sample, style: str) -> None:
    for item in sample.reflection.served:
        if item.name not in sample.readable():
            continue
        table = sample.table(item.name)
        found = list(_pages(sample.client, item.path, style, table.size))
        assert set(map(tuple, found)) <= {tuple(table.names)}, item.name
        assert table.of_json([tuple(row.values()) for row in found]) == table.as_json, f"{item.name} by {style}"


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
        table = sample.table(name)
        answer = sample.client.get(item.path, headers={"Accept": "text/csv"})
        assert answer.headers["content-type"].startswith("text/csv")
        header, *lines = csv.reader(io.StringIO(answer.text, newline=""))
        assert header == table.names
        assert table.of_csv(lines) == table.as_csv, name


def test_ndjson_holds_every_row(sample: Sample) -> None:
    for name in sample.readable():
        item = next(item for item in sample.reflection.served if item.name == name)
        table = sample.table(name)
        answer = sample.client.get(item.path, headers={"Accept": "application/x-ndjson"})
        found = [json.loads(line) for line in answer.content.splitlines()]
        assert set(map(tuple, found)) <= {tuple(table.names)}
        assert table.of_json([tuple(row.values()) for row in found]) == table.as_json, name


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


def _counted(rows: Sequence[Sequence[Any]], forms: list[Forms]) -> Rows:
    """How often each row is there, its values in these forms."""
    columns = zip(forms, zip(*rows, strict=True), strict=True) if rows else ()
    return dict(Counter(zip(*(map(form.__getitem__, _hashable(column)) for form, column in columns), strict=True)))


def _hashable(column: tuple[Any, ...]) -> Sequence[Any]:
    lists = list in set(map(type, column))
    return [tuple(value) if isinstance(value, list) else value for value in column] if lists else column


def _cell(value: Any, is_number: bool) -> Cell:
    """One form for a value of a driver and for the JSON or text that it is served as."""
    if value is None:
        return None
    if isinstance(value, (int, float, Decimal)) or is_number:
        try:
            number = Decimal(str(int(value) if isinstance(value, bool) else value))
            return f"number {number.normalize():f}"
        except InvalidOperation:
            return f"text {value}"
    if isinstance(value, (bytes, memoryview)):
        return f"text {base64.b64encode(bytes(value)).decode()}"
    if isinstance(value, (dt.datetime, dt.date)):
        return f"text {value.isoformat()}"
    text = json.dumps(value, separators=(",", ":")) if isinstance(value, tuple) else str(value)
    if _MOMENT.fullmatch(text):
        return f"text {dt.datetime.fromisoformat(text).isoformat()}"
    # views of Pagila join names in whatever order the plan of the moment gives them
    return f"text {', '.join(sorted(text.split(', ')))}"


def _uncsv(cell: str) -> Any:
    if cell in ("true", "false"):
        return cell == "true"
    return None if cell == "" else _FORMULA.sub("", cell)


def _escape(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.@:-]", lambda found: "".join(f"~{byte:02X}" for byte in found.group().encode()), text)
