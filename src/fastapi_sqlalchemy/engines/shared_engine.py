"""One connection for many: engines whose connections are parts of one transaction, and write in turns."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import Pool
from sqlalchemy.util import await_only

from .shared import Part, SharedTransaction
from .sqlite import writes

__all__ = ["SharedConnection"]

_KEY = "fastapi_sqlalchemy.part"


class SharedConnection:
    """Engines over a connection that is in a transaction: ``engine``, and ``async_engine`` for any event loop.

    For ``patience``, ``levels`` and the errors see `SharedTransaction`.
    """

    def __init__(
        self, connection: Connection, patience: float | None, levels: Callable[[], tuple[object, ...]]
    ) -> None:
        transaction = SharedTransaction(connection, patience, levels)
        self.end = transaction.end
        self.engine: Engine = _SharedEngine(transaction, connection, asynchronous=False)
        self.async_engine = AsyncEngine(_SharedEngine(transaction, connection, asynchronous=True))


class _SharedPool(Pool):
    """Hands the same connection of the driver out to everybody."""

    def __init__(self, shared: SharedTransaction, dialect: Any) -> None:
        super().__init__(lambda: shared.driver, reset_on_return=None, dialect=dialect)
        self._shared = shared

    def _do_get(self) -> Any:
        record: Any = self._create_connection()
        record.info[_KEY] = self._shared.admit(record.info)
        return record

    def _do_return_conn(self, record: Any) -> None:
        part: Part | None = record.info.pop(_KEY, None)
        if part is not None:
            self._shared.roll_back(part)
        record.close()

    def recreate(self) -> Pool:
        return self

    def dispose(self) -> None:
        """Nothing is idle."""

    def status(self) -> str:
        return "One connection, shared inside of db.isolated()"


class _SharedEngine(OptionEngine):
    """The engine of the connection as its users see it, events included, over a pool of its own."""

    def __init__(self, shared: SharedTransaction, connection: Connection, *, asynchronous: bool) -> None:
        super().__init__(connection.engine, {})
        self.dialect = _dialect_over(shared, connection.dialect, asynchronous=asynchronous)
        self._pool = _SharedPool(shared, self.dialect)

    @property
    def pool(self) -> Pool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]  # not that of the engine below
        return self._pool


class _Speech:
    """What a dialect says to the shared connection in place of BEGIN, COMMIT and ROLLBACK."""

    def __init__(self, shared: SharedTransaction, original: Any) -> None:
        self._shared = shared
        self._original = original

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        self._run(lambda: self._original.do_execute(cursor, statement, parameters, context), statement, context)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        self._run(lambda: self._original.do_executemany(cursor, statement, parameters, context), statement, context)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        self._run(lambda: self._original.do_execute_no_params(cursor, statement, context), statement, context)

    def _run(self, execute: Callable[[], None], statement: str, context: Any) -> None:
        connection: Connection = context.root_connection
        part: Part = connection.info[_KEY]
        part.autocommit = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
        if connection.dialect.is_async:
            await_only(asyncio.sleep(0))  # others run meanwhile, as with an async driver; SQLAlchemy insists on it
        self._shared.run(part, execute, is_write=writes(statement, context))

    def do_begin(self, fairy: Any) -> None:
        """It begins with its first write."""

    def do_commit(self, fairy: Any) -> None:
        self._shared.commit(fairy.info[_KEY])

    def do_rollback(self, fairy: Any) -> None:
        self._shared.roll_back(fairy.info[_KEY])

    def do_savepoint(self, connection: Connection, name: str) -> None:
        self._original.do_savepoint(connection, _unique(name, connection))

    def do_release_savepoint(self, connection: Connection, name: str) -> None:
        self._original.do_release_savepoint(connection, _unique(name, connection))

    def do_rollback_to_savepoint(self, connection: Connection, name: str) -> None:
        self._original.do_rollback_to_savepoint(connection, _unique(name, connection))

    def do_ping(self, driver: Any) -> bool:
        """Ask as any driver is asked: PostgreSQL's are set to commit by themselves for it, which none in use can be."""
        return DefaultDialect.do_ping(self._original, driver)

    def do_close(self, driver: Any) -> None:
        """The connection stays open."""

    def do_terminate(self, driver: Any) -> None:
        """The connection stays open."""

    def set_isolation_level(self, driver: Any, level: Any) -> None:
        """It cannot change inside of a transaction; AUTOCOMMIT is known by the options of the connection."""

    def reset_isolation_level(self, driver: Any) -> None:
        """It was not set."""


_SAID = tuple(name for name in vars(_Speech) if not name.startswith("_"))


class _Cursor:
    """A cursor of a synchronous driver where SQLAlchemy expects one of an async driver."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    async def _async_soft_close(self) -> None:
        """There is nothing to wait for."""


def _dialect_over(shared: SharedTransaction, original: Any, *, asynchronous: bool) -> Any:
    dialect: Any = copy.copy(original)
    speech = _Speech(shared, original)
    for name in _SAID:
        setattr(dialect, name, getattr(speech, name))
    if asynchronous:
        kind: Any = original.execution_ctx_cls

        def create_cursor(context: Any) -> Any:
            return _Cursor(kind.create_cursor(context))

        dialect.is_async = True
        dialect.execution_ctx_cls = type(kind.__name__, (kind,), {"create_cursor": create_cursor})
    return dialect


def _unique(name: str, connection: Connection) -> str:
    """MySQL forgets a savepoint when another one gets its name."""
    return f"{name}_{connection.info[_KEY].number}"
