"""Reads of SQLite in the event loop: a thread would cost many times what the read does.

Only what is short runs there. A statement that takes more than ``TURNS`` looks of the progress handler is interrupted,
a locked file is not waited for, and no connection is opened: in all these cases the ordinary path does the read, in a
worker thread. Nothing is awaited while a connection is held, and nothing is written (see ``group_commit``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy import exc as sa_exc

from ...admission import GatedQueuePool
from ...engines.sqlite import end_brief_read, start_brief_read
from ...exceptions import DatabaseUnavailableError
from ..operations.rows import Row
from .group_commit import GroupCommit
from .statement import DriverStatement, Found
from .work import UNREADABLE, GiveWay, Statements, Work

__all__ = ["REST", "TURNS", "SQLiteReads"]

T = TypeVar("T")

TURNS = 5
"""Looks of the progress handler (10,000 steps of SQLite's machine each) that a request may take in the event loop."""

REST = 100
"""Requests that a statement, once too long for the event loop, leaves to the ordinary path before it is tried again."""

_FAILURES = (sqlite3.Error, sa_exc.SQLAlchemyError, *UNREADABLE)


class SQLiteReads:
    """Runs short reads on pooled connections, without leaving the event loop."""

    def __init__(self, engine: Engine, statement_timeout: float | None) -> None:
        self.engine = engine
        self.dialect = engine.dialect
        self._statements = Statements(engine.dialect)
        self._writes = GroupCommit(engine, statement_timeout)

    async def run(self, work: Work[T], *, snapshot: bool = False) -> T:
        """Run the statements of ``work``; ``snapshot`` lets several of them see one state of the database.

        Raises `GiveWay` where the ordinary path has to do it.
        """
        pool = self.engine.pool
        if not isinstance(pool, GatedQueuePool) or not pool.has_idle_connection():
            raise GiveWay
        try:
            connection: Any = pool.connect()
        except (sa_exc.SQLAlchemyError, DatabaseUnavailableError) as error:
            raise GiveWay from error
        try:
            driver: sqlite3.Connection = connection.driver_connection
            if not start_brief_read(connection.info, driver, TURNS):
                raise GiveWay
            try:
                return self._run(driver, work, snapshot)
            finally:
                end_brief_read(connection.info, driver)
        except _FAILURES as error:
            raise GiveWay from error
        finally:
            connection.close()

    async def write(self, statement: DriverStatement, values: Mapping[str, Any]) -> list[Row]:
        """Run a statement in a worker thread and commit it, others' with it; raises `GiveWay`."""
        return await self._writes.write(statement, values)

    def _run(self, driver: sqlite3.Connection, work: Work[T], snapshot: bool) -> T:
        if snapshot:
            driver.execute("BEGIN")
        statement, values = next(work)
        while True:
            rows = _fetch(driver, self._statements.of(statement), values)
            try:
                statement, values = work.send(rows)
            except StopIteration as end:
                result: T = end.value
                break
        if snapshot:
            driver.execute("COMMIT")
        return result


def _fetch(driver: sqlite3.Connection, prepared: DriverStatement, values: Any) -> Found:
    if prepared.rest:
        prepared.rest -= 1
        raise GiveWay
    try:
        cursor = driver.execute(prepared.text, prepared.parameters(values))
        return prepared.rows(cursor.fetchall(), cursor.description)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            prepared.rest = REST
        raise
