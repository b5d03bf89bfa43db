"""Creates and drops the tables of the models, one process at a time."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, MetaData, inspect, text

from .engines.sqlite import begin_writing
from .exceptions import DatabaseUnavailableError

__all__ = ["VERSION_TABLE", "create_tables", "drop_tables"]

VERSION_TABLE = "alembic_version"
_PATIENCE = 30


def create_tables(connection: Connection, metadata: MetaData, *, unless_migrated: bool = False) -> None:
    """Create the tables that are missing; many processes may do so at once.

    With ``unless_migrated``, a database that holds Alembic's version table is left as it is.
    Raises `DatabaseUnavailableError` when another process holds the lock for more than 30 seconds.
    """
    with _Lock(connection):
        if unless_migrated and inspect(connection).has_table(VERSION_TABLE):
            return
        metadata.create_all(connection)


def drop_tables(connection: Connection, metadata: MetaData) -> None:
    """Drop the tables of the models."""
    with _Lock(connection):
        metadata.drop_all(connection)


class _Lock:
    """A lock in the database itself, held until the end of the transaction or block."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        digest = hashlib.sha256(b"fastapi_sqlalchemy.tables").digest()
        self._number = int.from_bytes(digest[:8], "big", signed=True)
        self._name = f"fastapi_sqlalchemy.{digest.hex()[:16]}"

    def __enter__(self) -> None:
        if self._dialect == "sqlite":
            begin_writing(self._connection)
            self._connection.execute(text("SELECT 1"))
        elif self._dialect == "postgresql":
            self._connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": self._number})
        elif self._dialect in ("mysql", "mariadb"):
            got = self._connection.scalar(
                text("SELECT GET_LOCK(MD5(CONCAT(COALESCE(DATABASE(), ''), :name)), :seconds)"),
                {"name": self._name, "seconds": _PATIENCE},
            )
            if got != 1:
                raise DatabaseUnavailableError(
                    f"Another process has been creating tables for more than {_PATIENCE} seconds."
                )

    def __exit__(self, *_exception: object) -> None:
        if self._dialect in ("mysql", "mariadb"):
            release = text("SELECT RELEASE_LOCK(MD5(CONCAT(COALESCE(DATABASE(), ''), :name)))")
            self._connection.execute(release, {"name": self._name})
