"""``fastapi-sqlalchemy doctor`` says what is wrong with a database, how bad it is, and the cure."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.cli import run
from fastapi_sqlalchemy.cli.doctor.clock import compare_clocks
from fastapi_sqlalchemy.cli.doctor.command import examine
from fastapi_sqlalchemy.cli.doctor.finding import Finding, Level, Patient
from fastapi_sqlalchemy.discovery import FoundDatabase
from fastapi_sqlalchemy.migrations import Migrations
from tests.reliability.replication import PgBouncer
from tests.support.databases import server_url

OK, WARNING, ERROR = Level.OK, Level.WARNING, Level.ERROR


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without migrations, unless a test makes them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("DATABASE_POSITION_KEY", raising=False)
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


def database(url: str, *, create: bool = True, **options: Any) -> SQLAlchemy:
    db = SQLAlchemy(url, **options)
    sa.Table("note", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
    if create:
        db.create_all()
    return db


def found(db: SQLAlchemy, *, workers: int = 1) -> dict[str, Finding]:
    """What is found, the worst of each check."""
    told: dict[str, Finding] = {}
    for finding in examine(Patient(FoundDatabase("db", "app:db", db), workers)):
        known = told.get(finding.check)
        if known is None or finding.level.exit_code > known.level.exit_code:
            told[finding.check] = finding
    db.dispose()
    for finding in told.values():
        assert (finding.level is OK) == (finding.cure is None), finding
    return told


def bad(db: SQLAlchemy, *, workers: int = 1) -> dict[str, Level]:
    return {name: finding.level for name, finding in found(db, workers=workers).items() if finding.level is not OK}


def test_a_sound_database_has_no_finding_but_good_ones(database_url: str) -> None:
    told = found(database(database_url))
    unsound = {name for name, finding in told.items() if finding.level is not OK}
    # PostgreSQL ends no idle transaction by itself
    assert unsound <= {"idle_in_transaction_session_timeout"}
    name = database_url.partition(":")[0]
    assert told["server"].sentence.lower().startswith({"mysql": "mariadb"}.get(name, name))
    assert told["tables"].sentence == "Every table of the models is there."
    assert ("clock" in told) == (name != "sqlite")


@pytest.mark.parametrize(
    ("settings", "check", "level"),
    [
        ({"foreign_keys": None}, "foreign_keys", ERROR),
        ({"journal_mode": "delete"}, "journal_mode", WARNING),
        ({"busy_timeout": 0}, "busy_timeout", WARNING),
    ],
)
def test_a_pragma_of_sqlite_that_was_turned_off(
    sqlite_url: str, settings: dict[str, Any], check: str, level: Level
) -> None:
    assert bad(database(sqlite_url, sqlite=settings)) == {check: level}


def test_synchronous_that_was_turned_off_by_a_listener(sqlite_url: str) -> None:
    db = database(sqlite_url)
    db.dispose()

    def turn_off(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    sa.event.listen(db.engine, "connect", turn_off)
    assert bad(db) == {"synchronous": ERROR}


def test_sqlite_in_memory_is_sound(memory_url: str) -> None:
    assert bad(database(memory_url)) == {}


def test_a_damaged_file_and_rows_that_lead_nowhere(here: Path) -> None:
    for name, script in (
        (
            "damaged",
            "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO note VALUES (1, NULL);"
            "PRAGMA writable_schema = ON;"
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)'",
        ),
        (
            "dangling",
            "CREATE TABLE note (id INTEGER PRIMARY KEY REFERENCES other); CREATE TABLE other (id INTEGER PRIMARY KEY);"
            "INSERT INTO note VALUES (1)",
        ),
    ):
        with sqlite3.connect(here / f"{name}.db") as raw:
            raw.executescript(script)
        raw.close()
    damaged, dangling = (found(database(f"sqlite:///{name}.db"))["integrity"] for name in ("damaged", "dangling"))
    assert (damaged.level, dangling.level) == (ERROR, ERROR)
    assert "NULL value in note.text" in damaged.sentence
    assert "1 rows name rows that are not there, in note" in dangling.sentence


def test_a_file_that_is_not_there_is_told_and_not_made(here: Path) -> None:
    assert bad(database("sqlite:///absent.db", create=False)) == {"server": WARNING}
    assert not (here / "absent.db").exists()


def test_models_without_a_key_and_foreign_keys_without_an_index(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    def author_id(**options: Any) -> sa.Column[int]:
        return sa.Column("author_id", sa.ForeignKey("author.id"), **options)

    sa.Table("author", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("log", db.metadata, sa.Column("text", sa.Text), author_id(index=True))
    sa.Table("book", db.metadata, sa.Column("id", sa.Integer, primary_key=True), author_id())
    sa.Table("page", db.metadata, author_id(primary_key=True), sa.Column("n", sa.Integer))
    db.create_all()
    told = [item.sentence for item in examine(Patient(FoundDatabase("db", "app:db", db), 1)) if item.level is WARNING]
    assert told == ["Without a primary key: log.", "Foreign keys without an index: book.author_id."]
    db.dispose()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pool_timeout": None}, "40 threads share 15 connections, and wait for one without end."),
        ({"engine_args": {"pool_size": 100}}, "The pool has 110 connections; def routes have 40 threads"),
        ({"engine_args": {"max_overflow": -1}}, "The pool opens as many connections as are asked for."),
        ({"engine_args": {"poolclass": NullPool}}, "The pool opens as many connections as are asked for."),
    ],
)
def test_a_pool_that_does_not_fit_its_threads(postgres_url: str, options: dict[str, Any], sentence: str) -> None:
    finding = found(database(postgres_url, **options))["pool"]
    assert finding.level is WARNING
    assert finding.sentence.startswith(sentence)


def test_the_pools_of_all_workers_against_the_connections_of_the_server(postgres_url: str) -> None:
    db = database(postgres_url)
    with db.engine.connect() as connection:
        most = int(connection.exec_driver_sql("SHOW max_connections").scalar_one())
    few = database(postgres_url, engine_args={"pool_size": 1, "max_overflow": 0})
    assert found(few)["connections"].level is OK
    half = found(few, workers=most * 2 // 3)["connections"]
    assert half.level is WARNING
    assert "where sync and async sessions are mixed" in half.sentence
    all_of_them = found(db, workers=most)["connections"]
    assert all_of_them.level is ERROR
    assert all_of_them.cure is not None
    assert '"pool_size": 1, "max_overflow": 0' in all_of_them.cure


def test_deadlines_of_postgresql(postgres_url: str) -> None:
    assert found(database(postgres_url))["idle_in_transaction_session_timeout"].level is WARNING
    db = database(postgres_url, statement_timeout=None)
    with db.engine.begin() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(f"ALTER DATABASE \"{name}\" SET idle_in_transaction_session_timeout = '60s'")
    db.dispose()
    assert bad(db) == {"statement_timeout": WARNING}
    lost = database(postgres_url, engine_args={"connect_args": {"options": ""}})
    assert bad(lost) == {"statement_timeout": ERROR}


@pytest.fixture
def pooler(postgres_url: str) -> Iterator[Callable[[str], str]]:
    """Starts PgBouncer with further settings before the server of the tests, and gives its URL."""
    started: list[PgBouncer] = []
    server = server_url("postgresql")
    assert server is not None

    def start(settings: str) -> str:
        address: Any = SimpleNamespace(port=server.port or 5432)
        started.append(PgBouncer(address, pool_size=4, settings=settings))
        own = sa.make_url(postgres_url).database
        return sa.make_url(started[-1].url).set(database=own).render_as_string(hide_password=False)

    yield start
    for one in started:
        one.remove()


def test_pgbouncer_in_transaction_mode_wants_the_option(pooler: Callable[[str], str]) -> None:
    refusing, lenient = pooler(""), pooler("ignore_startup_parameters = options\n")
    refused = found(database(refusing, create=False))["pooler"]
    assert refused.level is ERROR
    assert "PgBouncer refuses the connection" in refused.sentence
    assert refused.cure is not None
    assert 'pooler="pgbouncer"' in refused.cure
    told = found(database(lenient))
    assert (told["pooler"].level, told["statement_timeout"].level) == (ERROR, ERROR)
    assert "in transaction mode stands before the server, and pooler= is not set" in told["pooler"].sentence
    cured = found(database(refusing, pooler="pgbouncer"))
    assert (cured["pooler"].level, cured["statement_timeout"].level) == (OK, OK)
    assert "in transaction mode" in cured["pooler"].sentence


def test_pgbouncer_in_session_mode_needs_no_option(pooler: Callable[[str], str]) -> None:
    url = pooler("ignore_startup_parameters = options\npool_mode = session\n")
    assert found(database(url))["pooler"].sentence.endswith("it keeps a server for each session.")


def test_the_option_without_a_pooler_costs_and_is_told(postgres_url: str) -> None:
    assert found(database(postgres_url, pooler="pgbouncer"))["pooler"].level is WARNING


@pytest.mark.parametrize(
    ("setting", "check", "level"),
    [
        ("sql_mode = ''", "sql_mode", ERROR),
        ("default_storage_engine = MyISAM", "storage engine", ERROR),
        ("time_zone = '+02:00'", "time zone", WARNING),
        ("character_set_database = latin1", "character set", WARNING),
    ],
)
def test_a_setting_of_mariadb_that_loses_something(mariadb_url: str, setting: str, check: str, level: Level) -> None:
    db = database(mariadb_url, engine_args={"connect_args": {"init_command": f"SET SESSION {setting}"}})
    assert bad(db) == {check: level}


def test_isolation_and_idle_connections_of_mariadb(mariadb_url: str) -> None:
    assert bad(database(mariadb_url, engine_args={"isolation_level": "READ UNCOMMITTED"})) == {"isolation": ERROR}
    assert bad(database(mariadb_url, engine_args={"pool_recycle": 1_000_000})) == {"wait_timeout": WARNING}
    own = sa.create_engine(sa.make_url(mariadb_url).set(drivername="mysql+pymysql"))
    assert bad(database(mariadb_url, custom_engine=own)) == {"wait_timeout": WARNING}
    own.dispose()


@pytest.mark.parametrize(
    ("ahead", "level", "told"),
    [(0.5, OK, "within"), (-0.5, OK, "within"), (90.0, WARNING, "90 s ahead of"), (-5.0, WARNING, "5 s behind")],
)
def test_clocks_that_are_apart(ahead: float, level: Level, told: str) -> None:
    finding = compare_clocks(ahead, 0.01)
    assert finding.level is level
    assert told in finding.sentence


def test_migrations_that_wait_and_tables_that_are_missing(sqlite_url: str, here: Path) -> None:
    db = database(sqlite_url, create=False)
    (here / "test.db").touch()
    assert bad(db) == {"tables": WARNING}
    required = database(sqlite_url, create=False, migrations="check")
    assert bad(required) == {"tables": WARNING, "migrations": ERROR}
    migrations = Migrations(here / "alembic.ini", databases=[FoundDatabase("db", "app:db", db)])
    migrations.init()
    migrations.revision("first", autogenerate=True)
    assert bad(db) == {"migrations": ERROR}
    migrations.upgrade()
    assert bad(db) == {}
    sa.Table("later", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
    assert bad(db) == {"tables": ERROR}
    (here / "alembic.ini").write_text("[alembic\n")
    assert bad(db) == {"migrations": ERROR}


def test_replicas_that_do_not_answer_and_workers_without_a_common_key(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = sa.make_url(postgres_url).set(port=9, password="secret").render_as_string(hide_password=False)
    told = found(database(postgres_url, replicas=[postgres_url, dead]))["replicas"]
    assert told.level is ERROR
    assert "does not answer" in told.sentence
    assert "secret" not in str(told)
    near = database(postgres_url, replicas=[postgres_url])
    assert found(near)["replicas"].level is OK
    assert found(near, workers=2)["replicas"].level is WARNING
    monkeypatch.setenv("DATABASE_POSITION_KEY", "k" * 32)
    assert found(near, workers=2)["replicas"].level is OK


def test_a_driver_that_is_missing_is_told() -> None:
    told = found(database("oracle://scott:tiger@server/x", create=False))
    assert told["driver"].level is ERROR
    assert "fastapi-sqlalchemy[oracle]" in told["driver"].sentence
    assert "pool" not in told


def command(here: Path, url: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and the output of the command on a project whose database is ``url``."""
    name = f"patient_{here.name}".replace("-", "_")
    (here / f"{name}.py").write_text(
        "import sqlalchemy as sa\nfrom fastapi_sqlalchemy import SQLAlchemy\n"
        f"db = SQLAlchemy({url!r})\n"
        "sa.Table('note', db.metadata, sa.Column('id', sa.Integer, primary_key=True))\n"
    )
    (here / "pyproject.toml").write_text(f'[tool.fastapi-sqlalchemy]\ndb = "{name}:db"\n')
    code = run(["doctor", *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def test_the_exit_code_is_that_of_the_worst_finding(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(here))
    code, told = command(here, "sqlite:///notes.db", capsys)
    assert code == 1
    assert "  warning  server: There is no file notes.db yet.\n           Cure: " in told
    sqlite3.connect("notes.db").execute("CREATE TABLE note (id INTEGER PRIMARY KEY)").connection.close()
    code, told = command(here, "sqlite:///notes.db", capsys, "--json")
    assert code == 0
    read = json.loads(told)
    assert read["level"] == "ok"
    assert {"level": "ok", "check": "url", "sentence": "sqlite:///notes.db", "cure": None} in read["databases"]["db"]
    assert "postgres" in read["project"][0]["sentence"]


def test_a_server_that_does_not_answer_is_one_line_without_its_password(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(here))
    code, told = command(here, "postgresql://ada:secret@127.0.0.1:9/shop?sslpassword=hidden", capsys)
    assert code == 2
    assert "secret" not in told
    assert "hidden" not in told
    assert "Traceback" not in told
    (line,) = [line for line in told.splitlines() if line.startswith("  error")]
    assert "server: The server cannot be asked" in line


def test_a_database_that_only_an_async_driver_reaches_is_looked_at_too(here: Path, postgres_url: str) -> None:
    (here / "main.py").write_text(
        "import sqlalchemy as sa\nfrom fastapi_sqlalchemy import SQLAlchemy\n"
        f"db = SQLAlchemy({postgres_url!r}, replicas=[{postgres_url!r}])\n"
        "sa.Table('note', db.metadata, sa.Column('id', sa.Integer, primary_key=True))\n"
    )
    hide = "import sys; sys.modules['psycopg'] = None; from fastapi_sqlalchemy.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", hide, "doctor", "--json"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (1, "")
    told = {finding["check"]: finding for finding in json.loads(done.stdout)["databases"]["db"]}
    assert "by asyncpg" in told["server"]["sentence"]
    assert told["pool"]["sentence"].startswith("Only async sessions")
    assert {told[name]["level"] for name in ("statement_timeout", "connections", "clock", "pooler", "replicas")} == {
        "ok"
    }


def test_a_project_without_a_database_is_one_line_and_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No database was found" in line
