"""The exit codes of every command are those that the documentation tells, and its errors are one line."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastapi_sqlalchemy
from fastapi_sqlalchemy.cli import run
from fastapi_sqlalchemy.cli.commands import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "command-line.md"
APP = """
import sqlalchemy as sa
from fastapi import FastAPI

from fastapi_sqlalchemy import SQLAlchemy

db = SQLAlchemy("sqlite:///app.db")
sa.Table("note", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
app = FastAPI()
"""


def table(folder: Path) -> None:
    sqlite3.connect(folder / "app.db").execute("CREATE TABLE note (id INTEGER PRIMARY KEY)").connection.close()


def rows(folder: Path, text: str = "id\n1\n") -> None:
    table(folder)
    (folder / "rows.csv").write_text(text)


def history(folder: Path) -> None:
    table(folder)
    assert run(["db", "init"]) == 0
    assert run(["db", "revision", "-m", "first"]) == 0


Prepare = Callable[[Path], Any]
CASES: dict[tuple[str, int], tuple[Prepare, tuple[str, ...]]] = {
    ("new", 0): (table, ("shop",)),
    ("new", 2): (table, (".",)),
    ("routes", 0): (table, ()),
    ("routes", 2): (table, ("nowhere:app",)),
    ("doctor", 0): (table, ()),
    ("doctor", 1): (lambda _: None, ()),
    ("doctor", 2): (lambda folder: (folder / "app.db").write_text("no database"), ()),
    ("shell", 0): (table, ("-c", "pass")),
    ("shell", 1): (table, ("-c", "1 / 0")),
    ("shell", 2): (table, ("--db", "nowhere:db", "-c", "pass")),
    ("db", 0): (history, ("upgrade",)),
    ("db", 1): (history, ("check",)),
    ("db", 2): (table, ("upgrade",)),
    ("load", 0): (rows, ("rows.csv", "--table", "note")),
    ("load", 1): (lambda folder: rows(folder, "id\nx\n"), ("rows.csv", "--table", "note")),
    ("load", 2): (rows, ("rows.csv", "--table", "other")),
    ("dump", 0): (table, ("out.csv", "--table", "note")),
    ("dump", 2): (table, ("out.csv", "--table", "other")),
    ("seed", 0): (rows, ("rows.csv", "--table", "note")),
    ("seed", 1): (lambda folder: rows(folder, "id\nx\n"), ("rows.csv", "--table", "note")),
    ("seed", 2): (rows, ("absent.csv",)),
    ("serve", 2): (table, ("absent.db",)),
    ("admin", 0): (table, ("list-users", "--store", "store.db")),
    ("admin", 2): (table, ("delete-user", "nobody", "--store", "store.db")),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = f"codes_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(APP)
    (tmp_path / "pyproject.toml").write_text(f'[tool.fastapi-sqlalchemy]\ndb = "{name}:db"\napp = "{name}:app"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path


def documented() -> set[tuple[str, int]]:
    """The commands and codes of the page's table."""
    found: set[tuple[str, int]] = set()
    for name, *cells in re.findall(r"^\| `(\w+)` \| ?(.*?) ?\| ?(.*?) ?\| ?(.*?) ?\|$", PAGE.read_text(), re.MULTILINE):
        found |= {(name, code) for code, cell in enumerate(cells) if cell}
    return found


def test_the_page_tells_of_every_command_and_of_no_code_that_is_not_tried_here() -> None:
    assert {name for name, _ in documented()} == set(COMMANDS)
    assert documented() == set(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_a_command_ends_as_the_page_says(
    case: tuple[str, int], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, arguments = CASES[case]
    prepare(project)
    capsys.readouterr()
    assert run([case[0], *arguments]) == case[1], capsys.readouterr().err
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if case[1] == 2 and case[0] != "doctor":
        (line,) = told.splitlines()
        assert line.startswith("fastapi-sqlalchemy: ")


def test_an_upgrade_that_fails_tells_where_the_database_is_now(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history(project)
    assert run(["db", "revision", "-m", "second"]) == 0
    (second,) = project.glob("migrations/versions/*second*.py")
    second.write_text(second.read_text().replace("    pass\n", '    op.execute("SELECT absent")\n', 1))
    (first,) = re.findall(r"^Follows: (\w+)", second.read_text(), re.MULTILINE)
    capsys.readouterr()
    assert run(["db", "upgrade"]) == 2
    told = capsys.readouterr()
    assert told.out == f"db is at {first} now.\n"
    (line,) = told.err.splitlines()
    assert "no such column: absent" in line
    assert run(["db", "upgrade"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", sorted({name for name, _ in CASES}))
def test_a_command_that_was_asked_for_wrongly_ends_with_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--no-such-option"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--no-such-option" in line


@pytest.mark.parametrize("group", [(), ("db",), ("admin",)], ids=["all", "db", "admin"])
def test_a_name_without_a_command_shows_its_help_as_it_stands(
    group: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*group, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "..." not in shown.partition("Commands:")[2]
    assert run(group) == 2
    assert capsys.readouterr().err == shown


def test_the_version_is_told_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"fastapi-sqlalchemy {fastapi_sqlalchemy.__version__}\n"


def test_an_interrupted_command_ends_with_130(project: Path) -> None:
    table(project)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fastapi_sqlalchemy",
            "shell",
            "-c",
            "print(1, flush=True); import time; time.sleep(60)",
        ],
        cwd=project,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in what a script starts by &
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
