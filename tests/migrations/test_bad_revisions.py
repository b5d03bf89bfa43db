"""A revision file that cannot be read or run is told with its place, and never as an error of the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.discovery import FoundDatabase
from fastapi_sqlalchemy.exceptions import ConfigurationError
from fastapi_sqlalchemy.migrations import Migrations

GOOD = 'revision, down_revision = "a", None\n\ndef upgrade():\n    pass\n\ndef downgrade():\n    pass\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Migrations:
    monkeypatch.chdir(tmp_path)
    db = SQLAlchemy(f"sqlite:///{tmp_path / 'app.db'}")
    migrations = Migrations(tmp_path / "alembic.ini", databases=[FoundDatabase("db", "app:db", db)])
    migrations.init()
    return migrations


def write(text: str, name: str = "a") -> None:
    (Path("migrations/versions") / f"{name}.py").write_text(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def upgrade(:", "migrations/versions/a.py, line 1: SyntaxError"),
        (GOOD.replace("pass", "nobody()"), "migrations/versions/a.py, line 4: NameError: name 'nobody'"),
        ("import nowhere\n" + GOOD, "migrations/versions/a.py, line 1: ModuleNotFoundError"),
        (GOOD.replace("None", "'gone'"), "Revision gone referenced from .* Bring its file back"),
    ],
    ids=["syntax", "name", "import", "gone"],
)
def test_a_revision_that_cannot_be_run_is_told_with_its_place(project: Migrations, text: str, told: str) -> None:
    write(text)
    with pytest.raises(ConfigurationError, match=told):
        project.upgrade()
    if "NameError" not in told:  # that one can be read
        with pytest.raises(ConfigurationError, match=told):
            project.pending()


def test_a_database_at_a_revision_that_no_file_has_is_told_with_the_cure(project: Migrations) -> None:
    write(GOOD)
    project.upgrade()
    Path("migrations/versions/a.py").unlink()
    write(GOOD.replace('"a"', '"b"'), "b")
    for change in (project.upgrade, lambda: project.downgrade("-1")):
        with pytest.raises(ConfigurationError, match=r"no file of this project has it.*another release"):
            change()


def test_statements_of_several_databases_stand_below_their_names(tmp_path: Path) -> None:
    found = [
        FoundDatabase(name, f"app:{name}", SQLAlchemy(f"sqlite:///{tmp_path / name}.db")) for name in ("one", "two")
    ]
    migrations = Migrations(tmp_path / "alembic.ini", databases=found)
    migrations.init()
    for name in ("one", "two"):
        (tmp_path / "migrations" / name / "versions" / "a.py").write_text(GOOD)
    printed = migrations.sql()
    assert [line for line in printed.splitlines() if line in ("-- one", "-- two")] == ["-- one", "-- two"]
    assert "-- one" not in Migrations(migrations.ini, databases=found, only="one").sql()
