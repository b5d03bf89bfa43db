"""A revision on MariaDB that failed, or was killed at any statement, goes on where it stood."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.discovery import FoundDatabase
from fastapi_sqlalchemy.exceptions import ConfigurationError
from fastapi_sqlalchemy.migrations import Migrations, progress
from tests.migrations.test_migrations import CREATE_AND_WAIT, WAIT, start_upgrades

REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{name}", {down}, None, None

def upgrade():
{upgrade}

def downgrade():
{downgrade}
"""
FIRST = """
    note = op.create_table("note", sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.String(50)))
    op.bulk_insert(note, [{"id": 1, "text": "100 %"}, {"id": 2, "text": "b"}])
"""
SECOND = """
    op.execute("UPDATE note SET text = CONCAT(text, '+')")
    op.add_column("note", sa.Column("size", sa.Integer))
    op.execute("UPDATE note SET size = COALESCE(size, 0) + CHAR_LENGTH(text)")
    op.get_bind().execute(sa.text("UPDATE note SET size = size + :more"), {"more": 1})
    op.create_index("ix_note_size", "note", ["size"])
    op.alter_column("note", "text", new_column_name="body", existing_type=sa.String(50))
    op.create_table("tag", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO tag VALUES (7)")
"""
BACK = """
    op.drop_table("tag")
    op.drop_index("ix_note_size", "note")
    op.alter_column("note", "body", new_column_name="text", existing_type=sa.String(50))
    op.drop_column("note", "size")
"""
STATEMENTS = 8


class Killed(BaseException):
    """Ends the process, as far as the code under test can tell."""


@pytest.fixture
def project(tmp_path: Path, mariadb_url: str) -> Migrations:
    db = SQLAlchemy(mariadb_url)
    migrations = Migrations(tmp_path / "alembic.ini", databases=[FoundDatabase("db", "app:db", db)])
    migrations.init()
    write(tmp_path, "a", None, FIRST, "    op.drop_table('note')")
    write(tmp_path, "b", "'a'", SECOND, BACK)
    return migrations


def write(folder: Path, name: str, down: str | None, upgrade: str, downgrade: str = "    pass") -> None:
    text = REVISION.format(name=name, down=down, upgrade=upgrade, downgrade=downgrade)
    (folder / "migrations" / "versions" / f"{name}.py").write_text(text)


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    db = SQLAlchemy(url)
    with db.engine.connect() as connection:
        found = [tuple(row) for row in connection.exec_driver_sql(statement)]
    db.dispose()
    return found


def execute(url: str, statement: str) -> None:
    db = SQLAlchemy(url)
    with db.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    db.dispose()


def tables(url: str) -> set[str]:
    return {name for (name,) in rows(url, "SHOW TABLES")}


@contextmanager
def killed_at(moment: str, number: int) -> Generator[None]:
    """Let a migration end at its ``number``-th change: before it is noted, when it is noted, or after it was sent."""
    seen = 0

    def cut(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal seen
        if statement.split()[0] in ("CREATE", "ALTER", "INSERT", "UPDATE", "DROP"):
            seen += 1
            if seen == number:
                raise Killed

    original = progress.Progress.before

    def noted(*arguments: Any) -> Any:
        found = original(*arguments)
        cut(*arguments[1:])
        return found

    with pytest.MonkeyPatch.context() as patch:
        if moment == "noted":
            patch.setattr(progress.Progress, "before", noted)
        else:
            event.listen(sa.Engine, f"{moment}_cursor_execute", cut)
        try:
            with pytest.raises(Killed):
                yield
        finally:
            if moment != "noted":
                event.remove(sa.Engine, f"{moment}_cursor_execute", cut)


CUTS = [("before", 1), ("noted", 2), ("after", 2), ("after", 4), ("after", 6), ("after", STATEMENTS + 1)]


def test_a_revision_killed_at_any_statement_is_whole_after_the_next_upgrade(
    project: Migrations, mariadb_url: str
) -> None:
    project.upgrade("a")
    for moment, number in CUTS:
        with killed_at(moment, number):
            project.upgrade()
        assert [step.revision for step in project.upgrade()] == ["b"]
        assert rows(mariadb_url, "SELECT id, body, size FROM note ORDER BY id") == [(1, "100 %+", 7), (2, "b+", 3)]
        assert rows(mariadb_url, "SELECT * FROM tag") == [(7,)]
        assert tables(mariadb_url) == {"note", "tag", "alembic_version"}
        if number == 2:
            with killed_at(moment, number):
                project.downgrade("a")
        assert [step.revision for step in project.downgrade("a")] == ["b"]
        assert tables(mariadb_url) == {"note", "alembic_version"}
        execute(mariadb_url, "UPDATE note SET text = TRIM(TRAILING '+' FROM text)")


def test_a_process_killed_between_two_statements_is_taken_over_by_one_of_eight(
    project: Migrations, mariadb_url: str
) -> None:
    folder = project.ini.parent
    project.upgrade("a")
    waiting = CREATE_AND_WAIT.format(name="b", down="'a'", table="two", before="", after=WAIT)
    (folder / "migrations" / "versions" / "b.py").write_text(waiting)
    killed = start_upgrades(mariadb_url, folder, 1, HANG=str(folder / "hanging"))
    give_up = time.monotonic() + 60
    while not (folder / "hanging").exists():
        assert killed.poll() is None and time.monotonic() < give_up, killed.communicate()
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert [len(done) for done in project.unfinished().values()] == [1]
    output, errors = start_upgrades(mariadb_url, folder, 8).communicate(timeout=120)
    assert output.strip() == "[0, 0, 0, 0, 0, 0, 0, 1]", errors
    assert tables(mariadb_url) == {"note", "two", "alembic_version"}


def test_a_revision_that_fails_tells_what_stays_and_goes_on_when_it_is_mended(
    project: Migrations, mariadb_url: str
) -> None:
    project.upgrade("a")
    folder = project.ini.parent
    write(folder, "b", "'a'", SECOND.replace("INSERT INTO tag VALUES (7)", "INSERT INTO tog VALUES (7)"), BACK)
    with pytest.raises(ConfigurationError, match=r"tog.*keeps what .* CREATE INDEX.*CREATE TABLE tag") as raised:
        project.upgrade()
    assert raised.value.__cause__ is not None
    assert len(str(raised.value).splitlines()) == 1
    (done,) = project.unfinished().values()
    assert [statement.split()[0] for statement in done] == [
        "UPDATE",
        "ALTER",
        *["UPDATE"] * 2,
        "CREATE",
        "ALTER",
        "CREATE",
    ]
    write(folder, "b", "'a'", SECOND.replace("CONCAT(text, '+')", "text"), BACK)
    with pytest.raises(ConfigurationError, match=r"after a was not finished, and begins otherwise .*db stamp"):
        project.upgrade()
    write(folder, "b", "'a'", SECOND, BACK)
    project.upgrade()
    assert rows(mariadb_url, "SELECT id, body, size FROM note ORDER BY id") == [(1, "100 %+", 7), (2, "b+", 3)]
    assert project.unfinished() == {"db": []}


def test_a_table_that_stood_there_before_is_not_taken_for_one_that_was_made(
    project: Migrations, mariadb_url: str
) -> None:
    execute(mariadb_url, "CREATE TABLE note (other INTEGER)")
    for _ in range(2):
        with pytest.raises(OperationalError, match="already exists"):
            project.upgrade()
        assert "fastapi_sqlalchemy_migration" not in tables(mariadb_url)


def test_what_was_finished_by_hand_is_stamped(project: Migrations, mariadb_url: str) -> None:
    project.upgrade("a")
    with killed_at("after", 2):
        project.upgrade()
    project.stamp("b")
    assert project.unfinished() == {"db": []}
    assert "fastapi_sqlalchemy_migration" not in tables(mariadb_url)
    assert project.upgrade() == []
