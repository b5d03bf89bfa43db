"""Constraints that a database checks at COMMIT, checked where a savepoint stands for the transaction."""

from __future__ import annotations

import sqlite3
from typing import Any, Protocol

from sqlalchemy import Connection

__all__ = ["deferred_constraints"]


class _Deferred(Protocol):
    def check(self, driver: Any) -> None:
        """Raise the driver's IntegrityError where a COMMIT would fail now; the constraints stay deferred."""
        ...


def deferred_constraints(connection: Connection) -> _Deferred:
    """What checks the deferred constraints of the database; MariaDB, MySQL and others have none that are checked."""
    if connection.dialect.name == "postgresql":
        return _PostgreSQL()
    if connection.dialect.name == "sqlite":
        return _SQLite(connection.connection.dbapi_connection)
    return _Nothing()


class _Nothing:
    def check(self, driver: Any) -> None:
        """There is nothing to check."""


class _PostgreSQL:
    """SET CONSTRAINTS checks what was done so far (PostgreSQL manual, "SET CONSTRAINTS"); then all is as it was."""

    def check(self, driver: Any) -> None:
        found = _rows(
            driver,
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.conname), c.condeferred FROM pg_constraint c"
            " JOIN pg_namespace n ON n.oid = c.connamespace WHERE c.condeferrable",
        )
        if not found:
            return
        _rows(driver, "SET CONSTRAINTS ALL IMMEDIATE")
        if names := sorted({name for name, initially_deferred in found if initially_deferred}):
            _rows(driver, f"SET CONSTRAINTS {', '.join(names)} DEFERRED")


class _SQLite:
    """SQLite has only a list of the rows that break a foreign key; those that did so before are nobody's fault."""

    def __init__(self, driver: Any) -> None:
        self._before = set(_broken(driver)) if _has_deferred_keys(driver) else set[Any]()

    def check(self, driver: Any) -> None:
        if not _rows(driver, "PRAGMA foreign_keys")[0][0]:
            return
        for_this_transaction = bool(_rows(driver, "PRAGMA defer_foreign_keys")[0][0])
        if not for_this_transaction and not _has_deferred_keys(driver):
            return
        if not self._before.issuperset(_broken(driver)):
            error = sqlite3.IntegrityError("FOREIGN KEY constraint failed")
            error.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
            error.sqlite_errorname = "SQLITE_CONSTRAINT_FOREIGNKEY"
            raise error
        if for_this_transaction:
            _rows(driver, "PRAGMA defer_foreign_keys = OFF")


def _has_deferred_keys(driver: Any) -> bool:
    return bool(_rows(driver, "SELECT 1 FROM sqlite_master WHERE sql LIKE '%INITIALLY%DEFERRED%' LIMIT 1"))


def _broken(driver: Any) -> list[Any]:
    return _rows(driver, "PRAGMA foreign_key_check")


def _rows(driver: Any, statement: str) -> list[Any]:
    cursor = driver.cursor()
    try:
        cursor.execute(statement)
        return [] if cursor.description is None else list(cursor.fetchall())
    finally:
        cursor.close()
