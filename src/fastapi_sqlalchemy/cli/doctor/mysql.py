"""MariaDB and MySQL: isolation, strictness, idle connections, character set and time zone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from .finding import Finding, Patient, error, ok, warning
from .pool import compare_connections

__all__ = ["CHECKS"]

_UTC = frozenset({"UTC", "+00:00", "Etc/UTC", "GMT"})


def _check_settings(patient: Patient, connection: Connection) -> Iterator[Finding]:
    found: Any = connection.execute(
        sa.text(
            "SELECT @@sql_mode AS mode, @@wait_timeout AS wait, @@time_zone AS zone, @@system_time_zone AS system, "
            "@@character_set_database AS characters, @@max_connections AS most, @@default_storage_engine AS engine"
        )
    ).one()
    yield _isolation(connection.get_isolation_level())
    if {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"} & set(str(found.mode).split(",")):
        yield ok("sql_mode", "sql_mode is strict: a value that does not fit is refused.")
    else:
        yield error(
            "sql_mode",
            "sql_mode is not strict: a value that does not fit is cut, and nobody is told.",
            "SET GLOBAL sql_mode = CONCAT(@@GLOBAL.sql_mode, ',STRICT_TRANS_TABLES').",
        )
    if str(found.engine).lower() != "innodb":
        yield error(
            "storage engine",
            f"New tables are {found.engine}, which may have no transactions.",
            "SET GLOBAL default_storage_engine = InnoDB.",
        )
    if found.characters == "utf8mb4":
        yield ok("character set", "The database keeps every character (utf8mb4).")
    else:
        yield warning(
            "character set",
            f"The database is {found.characters}: some characters, such as emoji, cannot be kept.",
            "ALTER DATABASE ... CHARACTER SET utf8mb4; tables that are there are converted one by one.",
        )
    yield _idle(patient, int(found.wait))
    zone = str(found.system if found.zone == "SYSTEM" else found.zone)
    if zone in _UTC:
        yield ok("time zone", f"The session's time zone is {zone}.")
    else:
        yield warning(
            "time zone",
            f"The session's time zone is {zone}: NOW() and TIMESTAMP columns follow it, twice a year by a jump.",
            "SET GLOBAL time_zone = '+00:00'.",
        )
    yield from compare_connections(patient, connection.engine.pool, int(found.most))


def _isolation(level: str) -> Finding:
    if level == "READ UNCOMMITTED":
        return error(
            "isolation",
            "The isolation level is READ UNCOMMITTED: what others roll back is read.",
            'SET GLOBAL TRANSACTION ISOLATION LEVEL READ COMMITTED, or engine_args={"isolation_level": ...}.',
        )
    return ok("isolation", f"The isolation level is {level}.")


def _idle(patient: Patient, wait: int) -> Finding:
    """The server closes a connection that does nothing for ``wait`` seconds."""
    pool: Any = patient.db.engine.pool if patient.source.has_sync_driver() else None
    recycle: float = getattr(pool, "_recycle", -1)
    pinged = patient.source.config.custom_engine is None or bool(getattr(pool, "_pre_ping", False))
    if recycle > wait or (recycle < 0 and not pinged):
        return warning(
            "wait_timeout",
            f"The server closes a connection after {wait} idle seconds, before the pool would.",
            f"Set pool_recycle to less than {wait}, or pool_pre_ping=True.",
        )
    how = f"the pool replaces it after {recycle:g}" if recycle >= 0 else "the pool looks before it hands one out"
    return ok("wait_timeout", f"The server closes a connection after {wait} idle seconds; {how}.")


CHECKS = (_check_settings,)
