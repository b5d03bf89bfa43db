"""PostgreSQL: the settings of a session, the connections that are there, and a pooler in between."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import Connection

from .finding import Finding, Patient, error, ok, warning
from .pool import compare_connections
from .pooler import check_pooler

__all__ = ["CHECKS"]

_SETTINGS = (
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
    "fsync",
    "TimeZone",
)


def _check_settings(patient: Patient, connection: Connection) -> Iterator[Finding]:
    asked = sa.text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")
    found = {row[0]: row[1] for row in connection.execute(asked, {"names": list(_SETTINGS)})}
    yield _deadline(patient, int(found["statement_timeout"]) / 1000)
    idle = int(found["idle_in_transaction_session_timeout"]) / 1000
    if idle:
        yield ok("idle_in_transaction_session_timeout", f"A transaction that does nothing is ended after {idle:g} s.")
    else:
        yield warning(
            "idle_in_transaction_session_timeout",
            "A transaction whose program has stopped keeps its locks without end.",
            "ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout = '60s'.",
        )
    if found["fsync"] == "off":
        yield error(
            "fsync",
            "fsync is off: the database is lost when the server's machine stops.",
            "Set fsync = on in postgresql.conf.",
        )
    reserved = int(found["superuser_reserved_connections"]) + int(found.get("reserved_connections", 0))
    yield from compare_connections(patient, connection.engine.pool, int(found["max_connections"]) - reserved)
    yield ok("time zone", f"The session's time zone is {found['TimeZone']}; times with a zone are the same in each.")


def _deadline(patient: Patient, seconds: float) -> Finding:
    wanted = patient.source.config.statement_timeout
    if seconds:
        return ok("statement_timeout", f"A statement is ended after {seconds:g} s.")
    if wanted is None:
        return warning(
            "statement_timeout",
            "A statement may run without end.",
            "Leave SQLAlchemy(statement_timeout=...) at its 30 seconds.",
        )
    return error(
        "statement_timeout",
        f"The deadline of {wanted:g} s does not reach the server.",
        'A pooler such as PgBouncer drops it: SQLAlchemy(url, pooler="pgbouncer").',
    )


CHECKS = (_check_settings, check_pooler)
