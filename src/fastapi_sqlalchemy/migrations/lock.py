"""One migration at a time: a lock in the database, or beside the file of SQLite, that ends with its process."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa

from ..exceptions import DatabaseUnavailableError

__all__ = ["PATIENCE", "migration_lock"]

PATIENCE = 60.0
"""Seconds to wait for another process that migrates the same database."""

_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_KEY = hashlib.sha256(b"fastapi_sqlalchemy.migrations").digest()


@contextmanager
def migration_lock(connection: sa.Connection, timeout: float = PATIENCE) -> Generator[None]:
    """Hold the lock of a database while its tables are changed; ``timeout`` is in seconds.

    PostgreSQL: a session-level advisory lock. MariaDB, MySQL: ``GET_LOCK``. SQLite: a lock on a file beside the
    database. Each is given back when the connection or the process ends, killed or not. Other databases have none.
    Raises `DatabaseUnavailableError` where another process holds it for longer than ``timeout``.
    """
    name = connection.dialect.name
    if name == "sqlite":
        with _file_lock(connection.engine.url.database, timeout):
            yield
        return
    if name == "postgresql":
        number = int.from_bytes(_KEY[:8], "big", signed=True)
        take, give = sa.text("SELECT pg_try_advisory_lock(:key)"), sa.text("SELECT pg_advisory_unlock(:key)")
        parameters: dict[str, Any] = {"key": number}
    elif name in ("mysql", "mariadb"):
        label = "MD5(CONCAT(COALESCE(DATABASE(), ''), :key))"
        take, give = sa.text(f"SELECT GET_LOCK({label}, 0)"), sa.text(f"SELECT RELEASE_LOCK({label})")
        parameters = {"key": _KEY.hex()[:16]}
    else:
        yield
        return
    _wait(lambda: _ask(connection, take, parameters), timeout)
    try:
        yield
    finally:
        if not connection.invalidated and not connection.closed:
            if connection.in_transaction():
                connection.rollback()
            _ask(connection, give, parameters)


def _ask(connection: sa.Connection, statement: sa.TextClause, parameters: dict[str, Any]) -> bool:
    answer = connection.execute(statement, parameters).scalar()
    connection.rollback()
    return bool(answer)


def _wait(take: Any, timeout: float) -> None:
    give_up = time.monotonic() + timeout
    pause = _PAUSE
    while not take():
        if time.monotonic() + pause > give_up:
            raise DatabaseUnavailableError(
                f"Another process has been migrating this database for more than {timeout:g} seconds. Wait for it, or "
                "give it longer with --lock-timeout."
            )
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


@contextmanager
def _file_lock(database: str | None, timeout: float) -> Generator[None]:
    path = unquote(str(database or "").removeprefix("file:").partition("?")[0])
    if path in ("", ":memory:"):
        yield
        return
    with open(f"{path}.migration-lock", "a+b") as file:
        _wait(lambda: _try_lock(file), timeout)
        try:
            yield
        finally:
            _unlock(file)


def _try_lock(file: Any) -> bool:
    try:
        if os.name == "nt":
            importlib.import_module("msvcrt").locking(file.fileno(), 2, 1)
        else:
            fcntl: Any = importlib.import_module("fcntl")
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(file: Any) -> None:
    with contextlib.suppress(OSError):  # closing the file gives the lock back too
        if os.name == "nt":
            importlib.import_module("msvcrt").locking(file.fileno(), 0, 1)
        else:
            fcntl: Any = importlib.import_module("fcntl")
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)
