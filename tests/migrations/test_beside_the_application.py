"""Migrations beside the rest: the middleware, writers of SQLite, enumerated types that tables share."""

from __future__ import annotations

import enum
import sqlite3
from pathlib import Path
from typing import Any, Literal

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, MigrationsPendingError, SQLAlchemy
from fastapi_sqlalchemy.discovery import FoundDatabase
from fastapi_sqlalchemy.migrations import Migrations
from tests.support.client import TestClient


def shop(url: str, **options: Any) -> SQLAlchemy:
    db = SQLAlchemy(url, **options)

    class Item(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    return db


def migrations_of(folder: Path, db: SQLAlchemy) -> Migrations:
    return Migrations(folder / "alembic.ini", databases=[FoundDatabase("db", "app:db", db)])


def tables(url: str) -> set[str]:
    db = SQLAlchemy(url)
    names = set(sa.inspect(db.engine).get_table_names())
    db.dispose()
    return names


@pytest.fixture
def folder(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one revision that makes the table ``item``, on a database that is empty yet."""
    made = shop(sqlite_url)
    migrations = migrations_of(tmp_path, made)
    migrations.init()
    migrations.revision("first", autogenerate=True)
    made.dispose()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mode", ["check", "upgrade"])
def test_the_middleware_makes_no_table_where_migrations_do(
    mode: Literal["check", "upgrade"], folder: Path, sqlite_url: str
) -> None:
    db = shop(sqlite_url, migrations=mode)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    with TestClient(app) as client:
        assert client.get("/nothing").status_code == 404
    assert tables(sqlite_url) == set(), "without db.lifespan nobody brings the tables up"
    app = FastAPI(lifespan=db.lifespan)
    app.add_middleware(DBSessionMiddleware, db=db)
    if mode == "check":
        with pytest.raises(MigrationsPendingError), TestClient(app):
            pass
        assert tables(sqlite_url) == set()
    else:
        with TestClient(app):
            pass
        assert tables(sqlite_url) == {"alembic_version", "item"}
    db.dispose()


OTHER_WRITER = """
import sqlite3
from alembic import op

revision, down_revision, branch_labels, depends_on = "b", {down!r}, None, None

def upgrade():
    try:
        with sqlite3.connect({file!r}, timeout=0) as other:
            other.execute("INSERT INTO item DEFAULT VALUES")
    except sqlite3.OperationalError as error:
        print("the other writer:", error)
    op.execute("CREATE TABLE more (id INTEGER)")

def downgrade():
    op.execute("DROP TABLE more")
"""


def test_making_and_checking_a_revision_leave_the_database_as_it_is(folder: Path, sqlite_url: str) -> None:
    db = shop(sqlite_url)
    assert not migrations_of(folder, db).check()[0].is_clean
    assert tables(sqlite_url) == set()
    db.dispose()


def test_a_writer_of_sqlite_cannot_get_between_the_look_and_the_change(
    folder: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    db = shop(sqlite_url)
    migrations = migrations_of(folder, db)
    [first] = migrations.upgrade()
    text = OTHER_WRITER.format(down=first.revision, file=str(db.url.database))
    (folder / "migrations" / "versions" / "b.py").write_text(text)
    assert [step.revision for step in migrations.upgrade()] == ["b"]
    assert "the other writer: database is locked" in capsys.readouterr().out
    with sqlite3.connect(str(db.url.database), timeout=0) as other:
        other.execute("INSERT INTO item DEFAULT VALUES")
    other.close()
    db.dispose()


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


def test_tables_of_postgresql_may_share_an_enumerated_type(postgres_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(postgres_url)

    class Shirt(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[Size] = mapped_column(sa.Enum(Size, name="size"))

    class Sock(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[Size] = mapped_column(sa.Enum(Size, name="size"))

    migrations = migrations_of(tmp_path, db)
    migrations.init()
    migrations.revision("first", autogenerate=True)
    migrations.upgrade()
    migrations.downgrade("base")
    migrations.upgrade()
    assert migrations.check()[0].is_clean
    db.dispose()
