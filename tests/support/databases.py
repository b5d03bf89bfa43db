"""The databases of the tests: which servers take part, and databases of our own on them."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tests.support.postgres import PostgresServer, debian_binaries, wheel_binaries

__all__ = [
    "PLAIN",
    "PREFIX",
    "SERVERS",
    "Servers",
    "drop_leftovers",
    "drop_spare_databases",
    "forget_servers",
    "note_part",
    "server_url",
    "temporary_database",
]

PREFIX = f"fsa_test_{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]}"
"""Starts the names of our databases; with the machine, since a server may be shared by several."""
SERVERS = ("postgresql", "mariadb")
_VARIABLES = {"postgresql": "FSA_SERVER_POSTGRESQL", "mariadb": "FSA_SERVER_MARIADB"}
_DRIVERS = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}
_PARTS = "FSA_TEST_PARTS"
_OURS = re.compile(rf"{PREFIX}_(\d+)_[0-9a-f]{{10}}")


class Servers:
    """Finds or starts the servers, once for all workers; workers inherit the answers by the environment."""

    def __init__(self, parts: Path) -> None:
        self._started: list[PostgresServer] = []
        self.parts = parts
        os.environ[_PARTS] = str(parts)
        for name, url in (("postgresql", self._postgresql()), ("mariadb", self._mariadb())):
            if url is None:
                os.environ.pop(_VARIABLES[name], None)
            else:
                os.environ[_VARIABLES[name]] = url

    def took_part(self) -> dict[str, str]:
        """The databases that a test has used, with the versions of their servers."""
        return {path.name: path.read_text() for path in sorted(self.parts.iterdir())}

    def stop(self) -> None:
        """Drop what dead workers left behind, and stop what was started here."""
        for name in SERVERS:
            if _VARIABLES[name] in os.environ:
                drop_leftovers(name)
        forget_servers()
        for server in self._started:
            server.remove()

    def _postgresql(self) -> str | None:
        given = os.environ.get("TEST_POSTGRES_URL")
        if given:
            return given
        if _listens(5432):
            for user in ("postgres", os.environ.get("USER", "postgres")):
                url = f"postgresql://{user}@127.0.0.1:5432/postgres"
                if _answers(url, "postgresql"):
                    return url
        for binaries in (wheel_binaries(), debian_binaries()):
            if binaries is not None:
                server = PostgresServer(binaries)
                self._started.append(server)
                return server.url
        return None

    def _mariadb(self) -> str | None:
        given = os.environ.get("TEST_MARIADB_URL")
        if given:
            return given
        url = "mysql://root@127.0.0.1:3306/mysql"
        return url if _listens(3306) and _answers(url, "mariadb") else None


def server_url(name: str) -> sa.URL | None:
    """The URL of the server's own database, without a driver; None if the server takes no part."""
    value = os.environ.get(_VARIABLES[name])
    return (
        None if value is None else sa.make_url(value).set(drivername="postgresql" if name == "postgresql" else "mysql")
    )


@contextmanager
def temporary_database(name: str) -> Iterator[str]:
    """The URL of an empty database of our own on the server ``name``; emptied or dropped at the end."""
    base = server_url(name)
    if base is None:
        raise LookupError(f"no {name} server takes part")
    database = _spare.pop() if name == "postgresql" and _spare else _create(name)
    note_part(name, _versions[name])
    try:
        yield base.set(database=database).render_as_string(hide_password=False)
    finally:
        if name == "postgresql" and _emptied(database):
            _spare.append(database)
        else:
            with _server(name) as connection:
                _drop(connection, name, database)


def drop_spare_databases() -> None:
    """Drop what this process keeps for its next test."""
    while _spare:
        with _server("postgresql") as connection:
            _drop(connection, "postgresql", _spare.pop())
    forget_servers()


def forget_servers() -> None:
    """Close the connections that this process keeps."""
    while _engines:
        _engines.popitem()[1].dispose()


_spare: list[str] = []
"""PostgreSQL takes a third of a second to make a database, and a tenth of that to empty one."""

_versions: dict[str, str] = {}


def _create(name: str) -> str:
    database = f"{PREFIX}_{os.getpid()}_{uuid.uuid4().hex[:10]}"
    with _server(name) as connection:
        if name not in _versions:
            version = str(connection.exec_driver_sql("SELECT version()").scalar())
            _versions[name] = " ".join(version.split()[:2])
        if name == "postgresql":
            connection.exec_driver_sql(f'CREATE DATABASE "{database}" TEMPLATE template0')
        else:
            connection.exec_driver_sql(f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4")
    return database


def _emptied(database: str) -> bool:
    """Whether the database is as good as new: its sessions ended, its schemas and settings gone."""
    base = server_url("postgresql")
    assert base is not None
    try:
        with psycopg.connect(base.set(database=database).render_as_string(hide_password=False)) as connection:
            connection.execute(_EMPTY)
    except psycopg.Error:
        return False
    return True


_EMPTY = """
SET LOCAL lock_timeout = '5s';
DO $$
DECLARE name text;
BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END $$
"""


def note_part(name: str, version: str) -> None:
    """Remember that a test has used this database."""
    folder = os.environ.get(_PARTS)
    if folder:
        (Path(folder) / name).write_text(version)


@contextmanager
def _server(name: str) -> Iterator[sa.Connection]:
    """A connection to the server's own database, that this process keeps for the next who asks."""
    if (name, os.getpid()) not in _engines:
        url = server_url(name)
        assert url is not None
        _engines[name, os.getpid()] = sa.create_engine(
            url.set(drivername=_DRIVERS[name]),
            isolation_level="AUTOCOMMIT",
            pool_size=1,
            pool_pre_ping=True,
            connect_args=PLAIN[name],
        )
    with _engines[name, os.getpid()].connect() as connection:
        yield connection


_engines: dict[tuple[str, int], sa.Engine] = {}

PLAIN: dict[str, dict[str, bool]] = {"postgresql": {}, "mariadb": {"ssl_disabled": True}}
"""Connections of the tests' own do without TLS, for which PyMySQL reads the system's certificates each time."""


def _drop(connection: sa.Connection, name: str, database: str) -> None:
    if name == "postgresql":
        connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        return
    held = connection.exec_driver_sql(f"SELECT id FROM information_schema.processlist WHERE db = '{database}'")
    for session in held.scalars().all():
        with suppress(sa.exc.DBAPIError):
            connection.exec_driver_sql(f"KILL {session}")
    connection.exec_driver_sql("SET lock_wait_timeout = 20")
    connection.exec_driver_sql(f"DROP DATABASE IF EXISTS `{database}`")


def drop_leftovers(name: str) -> None:
    """Drop our databases whose owner is dead; the owner's process id is in the name."""
    query = (
        "SELECT datname FROM pg_database"
        if name == "postgresql"
        else "SELECT schema_name FROM information_schema.schemata"
    )
    with _server(name) as connection:
        for database in connection.exec_driver_sql(query).scalars().all():
            match = _OURS.fullmatch(str(database))
            if match is not None and not _lives(int(match[1])):
                _drop(connection, name, str(database))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is somebody else's, and alive
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str, name: str) -> bool:
    engine = sa.create_engine(sa.make_url(url).set(drivername=_DRIVERS[name]), poolclass=NullPool)
    try:
        with engine.connect():
            return True
    except sa.exc.OperationalError:
        return False
    finally:
        engine.dispose()
