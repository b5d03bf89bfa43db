"""``fastapi-sqlalchemy load``, ``dump`` and ``seed``: what they answer, and their exit codes."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastapi_sqlalchemy.cli import run

APPLICATION = """
import sqlalchemy as sa
from fastapi_sqlalchemy import SQLAlchemy

db = SQLAlchemy("sqlite:///shop.db")


class Country(db.Base):
    id = sa.Column(sa.Integer, primary_key=True)
    code = sa.Column(sa.String(2), unique=True, nullable=False)
    name = sa.Column(sa.String(40))


class City(db.Base):
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(40))
    country_code = sa.Column(sa.ForeignKey("country.code"), nullable=False)


db.create_all()


def first_rows():
    Country.new(code="pl", name="Polska")


async def later_rows(session):
    session.add(Country(code="cz", name="Česko"))


def broken_rows():
    Country.new(code="sk", name="Slovensko")
    raise ValueError("no more")
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A folder with an application, its database and its pyproject.toml; yields the name of its module."""
    module = f"shop_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(APPLICATION)
    (tmp_path / "pyproject.toml").write_text(f'[tool.fastapi-sqlalchemy]\ndb = "{module}:db"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield module
    sys.modules.pop(module, None)


def rows(statement: str) -> list[Any]:
    with sqlite3.connect("shop.db") as raw:
        found = raw.execute(statement).fetchall()
    raw.close()
    return found


def test_a_model_is_loaded_and_dumped_by_its_name(shop: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("countries.csv").write_text("code,name\npl,Polska\ncz,Česko\n")
    assert run(["load", "countries.csv", "--model", "Country", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["table"], told["rows"], told["resumed_at"]) == ("country", 2, 0)
    assert run(["dump", "out.ndjson", "--table", "country", "--columns", "code,name"]) == 0
    assert capfd.readouterr().out.startswith("2 rows of country to out.ndjson (")
    assert Path("out.ndjson").read_text().splitlines()[0] == '{"code":"pl","name":"Polska"}'


def test_a_url_is_enough_and_rows_go_through_pipes(
    shop: str, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect("other.db") as raw:
        raw.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)")
    raw.close()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"n,x\n1,a\n2,\n")))
    assert run(["load", "-", "--url", "other.db", "--table", "t", "--format", "csv"]) == 0
    capfdbinary.readouterr()
    assert run(["dump", "--url", "sqlite:///other.db", "--table", "t", "--format", "json"]) == 0
    assert json.loads(capfdbinary.readouterr().out) == [{"n": 1, "x": "a"}, {"n": 2, "x": None}]


def test_a_bad_row_is_exit_code_one_and_one_line(shop: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text("id,code\n1,pl\nx,cz\n")
    assert run(["load", "a.csv", "--model", "Country"]) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert (
        captured.err
        == "fastapi-sqlalchemy: a.csv, line 3: column 'id': 'x' cannot be read as INTEGER; no row was kept.\n"
    )
    assert run(["load", "a.csv", "--model", "Country", "--json", "--batch", "1"]) == 1
    told = json.loads(capfd.readouterr().out)
    assert (told["error"]["line"], told["error"]["column"], told["kept"]) == (3, "id", 1)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["load", "a.csv"], "Name one of --table and --model"),
        (["load", "a.csv", "--table", "nothing"], "There is no table 'nothing'"),
        (["load", "a.csv", "--model", "Nobody"], "the models are: City, Country"),
        (["load", "none.csv", "--table", "country"], "There is no file none.csv"),
        (["load", "a.txt", "--table", "country"], "give --format csv|ndjson|json"),
        (["load", "a.csv", "--table", "country", "--delimiter", "ab"], "one character"),
        (["load", "a.csv", "--table", "country", "--db", "nowhere:db"], "There is no module nowhere"),
        (["load", "a.csv", "--table", "country", "--url", "none.db"], "There is no file none.db"),
        (["dump", "a.csv", "--table", "country"], "is there already"),
        (["dump", "--table", "country", "--format", "csv", "--json"], "name a file"),
        (["seed", "nowhere"], "There is no file or folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_exit_code_two_and_one_line(
    shop: str, capfd: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    Path("a.csv").write_text("code\npl\n")
    Path("a.txt").write_text("code\npl\n")
    assert run(arguments) == 2
    captured = capfd.readouterr()
    assert reason in captured.err
    assert captured.err.count("\n") == 1
    assert not Path("shop.db").exists() or rows("SELECT * FROM country") == []


def test_a_function_seeds_in_one_transaction(shop: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["seed", f"{shop}:first_rows"]) == 0
    assert run(["seed", f"{shop}:later_rows"]) == 0
    assert run(["seed", f"{shop}:broken_rows"]) == 2
    assert "no more" in capfd.readouterr().err
    assert rows("SELECT code FROM country ORDER BY id") == [("pl",), ("cz",)]


def test_fixtures_are_put_in_place_as_often_as_one_likes(shop: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path("fixtures")
    folder.mkdir()
    (folder / "city.json").write_text('[{"id": 1, "name": "Łódź", "country_code": "pl"}]')
    (folder / "country.csv").write_text("code,name\npl,Polska\ncz,Česko\n")
    results: list[Any] = []
    for _ in range(2):
        assert run(["seed", "fixtures", "--json"]) == 0
        results.append(json.loads(capfd.readouterr().out)["tables"])
    (folder / "country.csv").write_text("code,name\npl,Poland\ncz,Česko\n")
    assert run(["seed", "fixtures", "--json"]) == 0
    results.append(json.loads(capfd.readouterr().out)["tables"])
    counts = [[(t["table"], t["inserted"], t["updated"], t["unchanged"]) for t in tables] for tables in results]
    assert counts == [
        [("country", 2, 0, 0), ("city", 1, 0, 0)],
        [("country", 0, 0, 2), ("city", 0, 0, 1)],
        [("country", 0, 1, 1), ("city", 0, 0, 1)],
    ]
    assert rows("SELECT code, name FROM country ORDER BY code") == [("cz", "Česko"), ("pl", "Poland")]


def test_a_fixture_that_does_not_fit_leaves_nothing_of_any(shop: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path("fixtures")
    folder.mkdir()
    (folder / "1_country.csv").write_text("code,name\npl,Polska\n")
    (folder / "2_city.json").write_text('[{"id": 1, "country_code": "pl"},\n{"id": 2, "country_code": "xx"}]')
    assert run(["seed", "fixtures"]) == 1
    assert "line 2" in capfd.readouterr().err
    (folder / "2_city.json").write_text('[{"name": "Łódź"}]')
    assert run(["seed", "fixtures"]) == 1
    assert "cannot be found again" in capfd.readouterr().err
    assert rows("SELECT * FROM country") == []
