"""Whether a pooler stands before PostgreSQL, and whether it keeps a server for a session or for a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from .finding import Finding, Patient, error, ok, warning

__all__ = ["check_pooler"]


def check_pooler(patient: Patient, connection: Connection) -> Iterator[Finding]:
    """Compare the process that the driver was told of with the one that answers: a pooler tells of none of them.

    Source: PostgreSQL manual, "Message Formats", BackendKeyData; PgBouncer makes up its own.
    """
    told = _told(connection.connection.driver_connection)
    if told is None:
        return
    answered = _answering(connection)
    is_set = patient.source.config.pooler is not None
    if told == answered:
        if is_set:
            yield warning(
                "pooler",
                'pooler="pgbouncer" is set, and the server itself answers.',
                "Leave pooler= out: a read then takes one round trip instead of two.",
            )
        else:
            yield ok("pooler", "No pooler stands before the server.")
    elif not _shares_servers(connection, answered):
        yield ok("pooler", "A pooler stands before the server; it keeps a server for each session.")
    elif is_set:
        yield ok("pooler", "A pooler in transaction mode stands before the server, and pooler= is set.")
    else:
        yield error(
            "pooler",
            "A pooler in transaction mode stands before the server, and pooler= is not set: what one transaction "
            "prepares or sets, another meets.",
            'SQLAlchemy(url, pooler="pgbouncer").',
        )


def _told(driver: Any) -> int | None:
    """The number of the server's process, as the driver was told when it connected."""
    if hasattr(driver, "get_server_pid"):  # asyncpg
        return int(driver.get_server_pid())
    info: Any = getattr(driver, "info", None)
    told = getattr(info, "backend_pid", None)
    return None if told is None else int(told)


def _answering(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def _shares_servers(connection: Connection, before: int) -> bool:
    """Whether a second session gets the server of the first, or the first another one while the second is at work."""
    connection.rollback()
    pool = connection.engine.pool.recreate()
    try:
        other = pool.connect()
        cursor = other.cursor()
        cursor.execute("BEGIN" if getattr(other.dbapi_connection, "autocommit", False) else "SELECT 1")
        cursor.execute("SELECT pg_backend_pid()")
        row: Any = cursor.fetchone()
        shared = int(row[0]) == before or _answering(connection) != before
        cursor.execute("ROLLBACK")
        cursor.close()
        other.close()
    finally:
        pool.dispose()
    return shared
