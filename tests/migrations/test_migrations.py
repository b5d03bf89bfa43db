"""Migrations from nothing to a changed schema and back, on every database, with data kept."""

from __future__ import annotations

import datetime as dt
import enum
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import MigrationsPendingError, SQLAlchemy
from fastapi_sqlalchemy.discovery import FoundDatabase
from fastapi_sqlalchemy.exceptions import ConfigurationError, DatabaseUnavailableError
from fastapi_sqlalchemy.migrations import Migrations
from fastapi_sqlalchemy.models.mixins import TimestampMixin
from fastapi_sqlalchemy.models.types import UTCDateTime, utc_now
from tests.support.client import TestClient
from tests.support.nursery import programs, python

DAY = dt.timedelta(days=1)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class MoreColor(enum.Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


def first(url: str) -> SQLAlchemy:
    db = SQLAlchemy(url)

    class Author(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(40))
        color: Mapped[Color] = mapped_column(sa.Enum(Color, name="color"), default=Color.RED)

    class Book(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id", ondelete="CASCADE"))

    return db


def second(url: str) -> SQLAlchemy:
    """A wider name that is unique, a new colour, a new column of a type of our own, a new table."""
    db = SQLAlchemy(url)

    class Author(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(80), unique=True)
        color: Mapped[MoreColor] = mapped_column(sa.Enum(MoreColor, name="color"), default=MoreColor.RED)
        seen_at: Mapped[Any | None] = mapped_column(UTCDateTime)

    class Book(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id", ondelete="CASCADE"))

    class Tag(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    return db


def migrations_of(folder: Path, *databases: SQLAlchemy, **options: Any) -> Migrations:
    names = ["db"] if len(databases) == 1 else [f"db{number}" for number in range(1, len(databases) + 1)]
    found = [FoundDatabase(name, f"app:{name}", db) for name, db in zip(names, databases, strict=True)]
    return Migrations(folder / "alembic.ini", databases=found, **options)


def rows(db: SQLAlchemy, statement: str) -> list[Any]:
    with db.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def test_from_nothing_to_a_changed_schema_and_back_with_the_data_kept(database_url: str, tmp_path: Path) -> None:
    db = first(database_url)
    migrations = migrations_of(tmp_path, db)
    migrations.init()
    [(file, _)] = migrations.revision("the first one", autogenerate=True)
    assert file.name.startswith("20")
    assert "the_first_one" in file.name
    [difference] = migrations.check()
    assert len(difference.pending) == 1
    assert "The table author is in the models and not in the database." in difference.sentences
    assert [step.message for step in migrations.upgrade()] == ["the first one"]
    assert migrations.upgrade() == []
    assert migrations.check()[0].is_clean
    with db(commit_on_exit=True):
        db.session.execute(sa.text("INSERT INTO author (id, name, color) VALUES (1, 'Ann', 'RED')"))
        db.session.execute(sa.text("INSERT INTO book (id, author_id) VALUES (1, 1)"))
    db.dispose()

    db = second(database_url)
    migrations = migrations_of(tmp_path, db)
    sentences = migrations.check()[0].sentences
    assert "The table tag is in the models and not in the database." in sentences
    assert "The column author.seen_at is in the models and not in the database." in sentences
    if db.engine.dialect.name == "postgresql":
        assert "The type color does not have GREEN in the database." in sentences
    assert len(migrations.revision("more", autogenerate=True)) == 1
    migrations.upgrade()
    assert migrations.check()[0].sentences == ()
    assert migrations.revision("nothing", autogenerate=True) == []
    assert rows(db, "SELECT name, color FROM author") == [("Ann", "RED")]
    assert rows(db, "SELECT id, author_id FROM book") == [(1, 1)]
    if db.engine.dialect.name != "mariadb":
        rows(db, "SELECT 1")
    with db(commit_on_exit=True):
        db.session.execute(sa.text("UPDATE author SET color = 'GREEN'" if _takes_green(db) else "SELECT 1"))
        db.session.execute(sa.text("UPDATE author SET color = 'RED'"))

    assert [step.is_upgrade for step in migrations.downgrade("-1")] == [False]
    assert rows(db, "SELECT name FROM author") == [("Ann",)]
    migrations.downgrade("base")
    assert migrations.current() == {"db": []}
    migrations.upgrade("head")
    assert migrations.check()[0].is_clean
    assert len(migrations.history()["alembic"]) == 2
    assert migrations.heads()["alembic"] == migrations.current()["db"]
    db.dispose()


def _takes_green(db: SQLAlchemy) -> bool:
    return db.engine.dialect.name in ("sqlite", "postgresql")


def test_a_revision_that_was_made_on_postgresql_runs_on_sqlite_too(
    postgres_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    def shelf(url: str, *columns: str) -> SQLAlchemy:
        db = SQLAlchemy(url)
        made = [sa.Column(name, sa.String(20), unique=True) for name in columns]
        sa.Table("shelf", db.metadata, sa.Column("id", sa.Integer, primary_key=True), *made)
        return db

    for columns in ((), ("place",)):
        db = shelf(postgres_url, *columns)
        migrations = migrations_of(tmp_path, db)
        if not columns:
            migrations.init()
        migrations.revision("shelves", autogenerate=True)
        migrations.upgrade()
        db.dispose()
    db = shelf(sqlite_url, "place")
    migrations = migrations_of(tmp_path, db)
    assert len(migrations.upgrade()) == 2
    assert migrations.check()[0].is_clean
    assert len(migrations.downgrade("base")) == 2
    db.dispose()


def test_a_revision_made_on_sqlite_runs_on_the_others(database_url: str, tmp_path: Path) -> None:
    def model_at(url: str) -> SQLAlchemy:
        db = SQLAlchemy(url)

        class Note(TimestampMixin, db.Base):
            id: Mapped[int] = mapped_column(primary_key=True)

        return db

    made_on = model_at(f"sqlite:///{tmp_path / 'made.db'}")
    migrations = migrations_of(tmp_path, made_on)
    migrations.init()
    [(file, _)] = migrations.revision("first", autogenerate=True)
    assert "strftime" not in file.read_text()
    made_on.dispose()
    db = model_at(database_url)
    migrations = migrations_of(tmp_path, db)
    migrations.upgrade()
    assert migrations.check()[0].is_clean
    with db.engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO note (id) VALUES (1)"))
    with db():
        assert abs(db.session.scalars(sa.select(db.metadata.tables["note"].c.created_at)).one() - utc_now()) < DAY
    db.dispose()


def test_the_alembic_command_works_on_what_init_writes(sqlite_url: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "alembic_app.py").write_text(
        "import sqlalchemy as sa\nfrom fastapi_sqlalchemy import SQLAlchemy\n"
        f"db = SQLAlchemy({sqlite_url!r})\n"
        "sa.Table('item', db.metadata, sa.Column('id', sa.Integer, primary_key=True))\n"
    )

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(project)}
        done = subprocess.run(arguments, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(python(), "-m", "fastapi_sqlalchemy", "db", "init", "--db", "alembic_app:db")
    alembic = str(programs() / "alembic")
    run(alembic, "revision", "--autogenerate", "-m", "first")
    assert "CREATE TABLE item" in run(alembic, "upgrade", "head", "--sql")
    run(alembic, "upgrade", "head")
    db = SQLAlchemy(sqlite_url)
    assert set(sa.inspect(db.engine).get_table_names()) == {"item", "alembic_version"}
    db.dispose()


@pytest.mark.parametrize("shared", [False, True])
def test_several_databases_are_migrated_by_one_command(tmp_path: Path, shared: bool) -> None:
    databases = [SQLAlchemy(f"sqlite:///{tmp_path}/{number}.db") for number in (1, 2)]
    for number, db in enumerate(databases, 1):
        sa.Table(f"item{number}", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
    migrations = migrations_of(tmp_path, *databases)
    migrations.init(shared=shared)
    made = migrations.revision("first", autogenerate=True)
    assert len(made) == (1 if shared else 2)
    migrations.upgrade()
    assert all(item.is_clean for item in migrations.check())
    for number, db in enumerate(databases, 1):
        tables = set(sa.inspect(db.engine).get_table_names())
        assert tables == {f"item{number}", "alembic_version"}
    assert migrations.revision("nothing", autogenerate=True) == []
    migrations.downgrade("base")
    assert [sa.inspect(db.engine).get_table_names() for db in databases] == [["alembic_version"]] * 2
    for db in databases:
        db.dispose()


def test_heads_are_merged_shown_and_stamped(sqlite_url: str, tmp_path: Path) -> None:
    db = first(sqlite_url)
    migrations = migrations_of(tmp_path, db)
    migrations.init()
    [(base, _)] = migrations.revision("base", autogenerate=True)
    migrations.revision("left")
    script = migrations.history()["alembic"][-1].revision
    config = Config(str(tmp_path / "alembic.ini"))
    config.attributes["databases"] = migrations.databases
    command.revision(config, "right", head=script, splice=True)
    assert len(migrations.heads()["alembic"]) == 2
    assert len(migrations.merge("both")) == 1
    assert len(migrations.heads()["alembic"]) == 1
    assert migrations.show(script)[0].path == str(base)
    migrations.stamp("head")
    assert migrations.current()["db"] == migrations.heads()["alembic"]
    with pytest.raises(ConfigurationError, match="no revision nonsense"):
        migrations.show("nonsense")
    db.dispose()


CREATE_AND_WAIT = """
import os, pathlib, time
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{name}", {down}, None, None

def upgrade():
    {before}
    op.create_table("{table}", sa.Column("id", sa.Integer, primary_key=True))
    {after}

def downgrade():
    op.drop_table("{table}")
"""
WAIT = """if os.environ.get("HANG"):
        pathlib.Path(os.environ["HANG"]).touch()
        time.sleep(60)"""

UPGRADE = """
import os, pathlib, sys
from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.discovery import FoundDatabase
from fastapi_sqlalchemy.migrations import Migrations

def upgrade():
    db = SQLAlchemy(sys.argv[1])
    migrations = Migrations(pathlib.Path(sys.argv[2]), databases=[FoundDatabase("db", "app:db", db)])
    return len(migrations.upgrade())

children = []
for _ in range(int(sys.argv[3])):
    child = os.fork()
    if not child:
        try:
            os._exit(upgrade())
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(99)
    children.append(child)
print(sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def two_revisions(folder: Path) -> Migrations:
    db = SQLAlchemy("sqlite://")
    sa.Table("one", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
    migrations = migrations_of(folder, db)
    migrations.init()
    versions = folder / "migrations" / "versions"
    (versions / "a.py").write_text(CREATE_AND_WAIT.format(name="a", down=None, table="one", before="", after=""))
    (versions / "b.py").write_text(CREATE_AND_WAIT.format(name="b", down="'a'", table="two", before="", after=WAIT))
    return migrations


def start_upgrades(url: str, folder: Path, number: int, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python(), "-c", UPGRADE, url, str(folder / "alembic.ini"), str(number)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_r35_of_eight_upgrades_at_once_one_applies_and_a_killed_one_is_run_again(
    database_url: str, tmp_path: Path, size: Callable[[int, int], int], figure: Callable[..., None]
) -> None:
    kind, n, failures = sa.make_url(database_url).get_backend_name(), size(1, 17), list[str]()
    two_revisions(tmp_path)
    db = SQLAlchemy(database_url)
    for number in range(n):
        hanging = tmp_path / f"hanging{number}"
        killed = start_upgrades(database_url, tmp_path, 1, HANG=str(hanging))
        give_up = time.monotonic() + 60
        while not hanging.exists():
            assert killed.poll() is None, killed.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.02)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        eight = start_upgrades(database_url, tmp_path, 8)
        output, errors = eight.communicate(timeout=120)
        if output.strip() != "[0, 0, 0, 0, 0, 0, 0, 1]":
            failures.append(output + errors)
        assert {"one", "two"} <= set(sa.inspect(db.engine).get_table_names())
        assert rows(db, "SELECT version_num FROM alembic_version") == [("b",)]
        with db.engine.begin() as connection:
            for table in ("one", "two", "alembic_version"):
                connection.exec_driver_sql(f"DROP TABLE {table}")
    figure("R35", variant=kind, n=n, failures=len(failures))
    assert failures == []
    db.dispose()


def test_the_lock_has_a_bound(database_url: str, tmp_path: Path) -> None:
    from fastapi_sqlalchemy.migrations.lock import migration_lock

    db = first(database_url)
    migrations = migrations_of(tmp_path, db, lock_timeout=0.2)
    migrations.init()
    migrations.revision("first", autogenerate=True)
    with (
        db.engine.connect() as connection,
        migration_lock(connection),
        pytest.raises(DatabaseUnavailableError, match="Another process has been migrating"),
    ):
        migrations.upgrade()
    assert len(migrations.upgrade()) == 1
    db.dispose()


@pytest.mark.backends("sqlite", "postgresql")
def test_the_lifespan_requires_the_head_or_brings_the_database_there(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = first(database_url)
    migrations = migrations_of(tmp_path, made)
    migrations.init()
    migrations.revision("first", autogenerate=True)
    made.dispose()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)

    def start(mode: Any) -> None:
        db = SQLAlchemy(database_url, migrations=mode)
        with TestClient(FastAPI(lifespan=db.lifespan)) as client:
            assert client.get("/nothing").status_code == 404
        db.dispose()

    with pytest.raises(MigrationsPendingError, match="fastapi-sqlalchemy db upgrade"):
        start("check")
    start("upgrade")
    start("check")
    with pytest.raises(ConfigurationError, match="migrations is"):
        SQLAlchemy(database_url, migrations="sometimes")  # type: ignore[arg-type]


def test_what_is_dangerous_on_postgresql_is_said(postgres_url: str, tmp_path: Path) -> None:
    db = first(postgres_url)
    migrations = migrations_of(tmp_path, db)
    migrations.init()
    [(_, nothing)] = migrations.revision("first", autogenerate=True)
    assert nothing == []
    migrations.upgrade()
    db.dispose()
    changed = SQLAlchemy(postgres_url)

    class Author(changed.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(40), index=True)
        email: Mapped[str] = mapped_column(sa.String(40))

    class Book(changed.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id", ondelete="CASCADE"))

    [(_, warnings)] = migrations_of(tmp_path, changed).revision("second", autogenerate=True)
    reasons = " ".join(item.reason for item in warnings)
    assert len(warnings) == 3
    assert "loses the data of the column" in reasons
    assert "give it a server default" in reasons
    assert "blocks writes until the index is built" in reasons
    changed.dispose()


def test_what_is_wrong_is_one_clear_error(sqlite_url: str, tmp_path: Path) -> None:
    empty = SQLAlchemy(sqlite_url)
    migrations = migrations_of(tmp_path, empty)
    with pytest.raises(ConfigurationError, match="fastapi-sqlalchemy db init"):
        migrations.upgrade()
    migrations.init()
    with pytest.raises(ConfigurationError, match="already"):
        migrations.init()
    with pytest.raises(ConfigurationError, match="no models"):
        migrations.revision("first", autogenerate=True)
    with pytest.raises(ConfigurationError, match="nonsense"):
        migrations.upgrade("nonsense")
    with pytest.raises(ConfigurationError, match="no section other"):
        migrations_of(tmp_path, empty, only="other").upgrade()
    rows(empty, "SELECT 1")
    with empty.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('gone')"))
    with pytest.raises(ConfigurationError, match="another release"):
        migrations.pending()
    empty.dispose()
