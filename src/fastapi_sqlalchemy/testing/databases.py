"""Databases that a test run makes for itself and drops at its end: one for every worker of pytest-xdist."""

from __future__ import annotations

import re
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from ..config import sync_url_for
from ..database import SQLAlchemy
from ..engines.sqlite import is_memory_url
from ..exceptions import ConfigurationError

__all__ = ["own_database", "worker_database"]

_LONGEST = 63
"""Bytes of a name in PostgreSQL (manual, "Identifiers and Key Words"); MariaDB allows 64 characters."""


@contextmanager
def worker_database(database: SQLAlchemy, worker: str, folder: Path) -> Generator[SQLAlchemy]:
    """Let ``database`` lead to an empty database of its own, of the same kind and on the same server.

    ``worker`` becomes part of its name; ``folder`` takes the file where it is SQLite. SQLite in memory belongs to one
    process anyway and stays as it is. The database is dropped at the end.
    """
    if is_memory_url(database.url):
        yield database
        return
    with own_database(database.url, worker, folder) as url:
        given = database.source.config.async_url
        async_url = None if given is None else given.set(database=url.database)
        with database.override(url, async_url=async_url):
            yield database


@contextmanager
def own_database(url: URL, worker: str, folder: Path) -> Generator[URL]:
    """Make an empty database beside that of ``url`` and yield its URL; drop it at the end, and nothing else.

    Its name has a random part, so that it is no database that anybody has. Raises `ConfigurationError` for a kind of
    database that cannot be made here.
    """
    backend = url.get_backend_name()
    suffix = f"_{worker}_{uuid.uuid4().hex[:10]}"
    if backend == "sqlite":
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{Path(str(url.database).removeprefix('file:')).stem}{suffix}.db"
        yield URL.create(url.drivername, database=str(path))
        for left in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            left.unlink(missing_ok=True)
        return
    if backend not in ("postgresql", "mysql", "mariadb"):
        raise ConfigurationError(
            f"A database for each worker is made on SQLite, PostgreSQL, MySQL and MariaDB, not on {backend}. Override "
            "the fixture `sqlalchemy_databases`, and give each worker its own by `db.override(url)`."
        )
    stem = re.sub(r"\W", "_", str(url.database or "test"), flags=re.ASCII)
    name = stem[: _LONGEST - len(suffix)] + suffix
    with _server(url) as connection:
        quoted = connection.dialect.identifier_preparer.quote_identifier(name)
        connection.exec_driver_sql(
            f"CREATE DATABASE {quoted}" + ("" if backend == "postgresql" else " CHARACTER SET utf8mb4")
        )
    try:
        yield url.set(database=name)
    finally:
        with _server(url) as connection:
            # the connections of an application that was not shut down must not keep it
            connection.exec_driver_sql(f"DROP DATABASE {quoted}" + (" WITH (FORCE)" if backend == "postgresql" else ""))


@contextmanager
def _server(url: URL) -> Generator[Connection]:
    """A connection to the server beside all pools, where the database itself need not exist."""
    maintenance = "postgres" if url.get_backend_name() == "postgresql" else None
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "poolclass": NullPool}
    # set() leaves out what is None
    engine = create_engine(sync_url_for(url)._replace(database=maintenance), **options)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
