"""Every command finds the database of a project alike: by ``--db``, in pyproject.toml, or by looking."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fastapi_sqlalchemy.cli import run
from tests.support.nursery import python

APP = """
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy

db = SQLAlchemy("sqlite:///{name}.db")


class {model}(db.Base):
    id: Mapped[int] = mapped_column(primary_key=True)


db.create_all()
"""

COMMANDS = {
    "shell": ("shell", "-c", "print(db.url.database)"),
    "dump": ("dump", "rows.csv", "--table", "note"),
    "load": ("load", "some.csv", "--table", "note"),
    "seed": ("seed", "some.csv", "--table", "note"),
    "db init": ("db", "init"),
    "admin": ("admin", "list-users", "--store", "store.db"),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two databases in modules of their own names; ``first`` holds notes, ``second`` does not."""
    stem = tmp_path.name.replace("-", "_")
    for name, model in (("first", "Note"), ("second", "Other")):
        (tmp_path / f"{stem}_{name}.py").write_text(APP.format(name=name, model=model))
    (tmp_path / "some.csv").write_text("id\n1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path


def names(folder: Path, name: str) -> str:
    return f"{folder.name.replace('-', '_')}_{name}:db"


def choose(folder: Path, name: str) -> None:
    (folder / "pyproject.toml").write_text(f'[tool.fastapi-sqlalchemy]\ndb = "{names(folder, name)}"\n')


@pytest.mark.parametrize("command", COMMANDS)
def test_pyproject_names_the_database(project: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    choose(project, "first")
    assert run(COMMANDS[command]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_option_goes_before_pyproject(project: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    choose(project, "second")
    assert run([*COMMANDS[command], "--db", names(project, "first")]) == 0, capsys.readouterr().err
    if command == "shell":
        assert capsys.readouterr().out == "first.db\n"
    if command == "db init":
        assert f"db = {names(project, 'first')}\n" in Path("alembic.ini").read_text()


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "admin"])
def test_a_name_that_leads_nowhere_is_one_line_and_2(
    project: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    choose(project, "third")
    assert run(COMMANDS[command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "There is no module" in line


def test_migrations_run_on_the_database_of_the_option(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choose(project, "second")
    assert run(["db", "init"]) == 0
    assert run(["db", "revision", "-m", "nothing"]) == 0
    capsys.readouterr()
    assert run(["db", "upgrade", "--db", names(project, "first")]) == 0
    assert run(["db", "current"]) == 0
    assert capsys.readouterr().out.endswith("db: no migrations\n")
    assert run(["db", "current", "--db", names(project, "first")]) == 0
    assert "no migrations" not in capsys.readouterr().out


def test_the_option_never_runs_the_history_of_another_database(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ", ".join(f'"{names(project, name)}"' for name in ("first", "second"))
    (project / "pyproject.toml").write_text(f"[tool.fastapi-sqlalchemy]\ndb = [{both}]\n")
    (project / "alembic.ini").write_text(
        "".join(
            f"[{name}]\ndb = {names(project, name)}\nscript_location = %(here)s/migrations/{name}\n\n"
            for name in ("first", "second")
        )
    )
    third = project / f"{project.name.replace('-', '_')}_third.py"
    third.write_text(APP.format(name="third", model="Third"))
    assert run(["db", "upgrade", "--db", names(project, "third")]) == 2
    assert f"alembic.ini has no history of {names(project, 'third')}" in capsys.readouterr().err


def test_serve_without_a_url_serves_the_database_of_the_project(project: Path) -> None:
    choose(project, "first")
    process = subprocess.Popen(
        [python(), "-m", "fastapi_sqlalchemy", "serve", "--port", "0"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(3)]
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert told[0] == "sqlite:///first.db (read only)\n"
    assert told[2].startswith("/note ")


def test_a_url_and_the_option_together_are_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["serve", "x.db"], ["admin", "list-users", "x.db"]):
        assert run([*command, "--db", "a:b"]) == 2
        assert "not both" in capsys.readouterr().err
