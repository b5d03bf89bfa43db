"""Statements of aiosqlite as one errand of its thread each: a cursor, BEGIN, the statement, its rows.

SQLAlchemy's adapter sends the thread of a connection for each of these on its own, and once more to close the cursor;
each errand costs two switches between threads, many times what SQLite needs for a short read.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection, AsyncAdapt_aiosqlite_cursor
from sqlalchemy.util import await_only

__all__ = ["ErrandConnection", "ErrandCursor", "run_in_errands"]

Begin: TypeAlias = Callable[[sqlite3.Connection], object]
"""Begins a transaction on a connection of the driver."""


class _Outcome:
    """What the driver's cursor told of a statement before it was closed."""

    __slots__ = ("arraysize", "description", "lastrowid", "rowcount")

    def __init__(self) -> None:
        self.arraysize = 1
        self.description: Any = None
        self.lastrowid: int | None = None
        self.rowcount = -1


class ErrandCursor(AsyncAdapt_aiosqlite_cursor):
    """A cursor that its connection's thread opens, uses and closes in one go; the rows stay here.

    ``begin`` is run first, in the same errand.
    """

    __slots__ = ("begin",)

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._cursor: Any = _Outcome()
        self._rows = deque()
        self._soft_closed_memoized: Any = {}
        self.begin: Begin | None = None

    def execute(self, operation: Any, parameters: Any = None) -> Any:
        self._send(operation, () if parameters is None else parameters, many=False)
        return self

    def executemany(self, operation: Any, seq_of_parameters: Any) -> Any:
        self._send(operation, seq_of_parameters, many=True)
        return self

    def close(self) -> None:
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """The errand has closed the driver's cursor."""

    def _send(self, operation: str, parameters: Any, *, many: bool) -> None:
        begin, self.begin = self.begin, None
        connection: Any = self._adapt_connection
        found = connection.send(_run, begin, operation, parameters, many)
        told = self._cursor
        rows, told.description, told.rowcount, told.lastrowid = found
        self._rows = deque(rows)


class ErrandConnection(AsyncAdapt_aiosqlite_connection):
    """An aiosqlite connection whose cursors run in errands, and which rolls back only what was begun."""

    __slots__ = ("_is_lost",)

    _cursor_cls: Any = ErrandCursor
    _connection: Any

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self._is_lost = False

    def send(self, function: Any, *arguments: Any) -> Any:
        """Let the thread call ``function`` with the driver's connection, and wait for what it returns."""
        try:
            return await_only(self._errand(function, *arguments))
        except Exception as error:
            self._handle_exception(error)

    async def _errand(self, function: Any, *arguments: Any) -> Any:
        driver: Any = self._connection
        try:
            return await driver._execute(function, driver._conn, *arguments)
        except Exception:
            raise
        except BaseException:  # cancelled: the thread goes on, and nobody knows how far it is
            self._is_lost = True
            raise

    def rollback(self) -> None:
        driver = self._connection
        if driver._connection and (self._is_lost or driver.in_transaction):
            super().rollback()


def run_in_errands(dialect: Any) -> None:
    """Let the connections that a dialect of aiosqlite opens run each statement as one errand."""
    open_connection = dialect.connect

    def connect(*arguments: Any, **options: Any) -> Any:
        opened = open_connection(*arguments, **options)
        if type(opened) is not AsyncAdapt_aiosqlite_connection:
            return opened
        return ErrandConnection(opened.dbapi, opened.driver_connection)

    dialect.connect = connect


def _run(
    driver: sqlite3.Connection, begin: Begin | None, operation: str, parameters: Any, many: bool
) -> tuple[list[Any], Any, int, int | None]:
    cursor = driver.cursor()
    try:
        if begin is not None:
            begin(driver)
        if many:
            cursor.executemany(operation, parameters)
        else:
            cursor.execute(operation, parameters)
        rows = cursor.fetchall() if cursor.description else []
        return rows, cursor.description, cursor.rowcount, cursor.lastrowid
    finally:
        cursor.close()
