"""``db.isolated()``: everything inside goes over one connection and is rolled back at the end."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Generic, TypeVar

from sqlalchemy import text

from .engines import EngineSource
from .engines.sqlite import begin_writing
from .exceptions import TransactionUsageError

__all__ = ["Isolation"]

D = TypeVar("D")


class Isolation(Generic[D]):
    """For ``with`` or ``async with`` in tests; yields the database.

    Sessions opened inside, sync and async, in any thread or event loop, join one outer transaction by savepoints: a
    commit of the code under test releases its savepoint, and the end rolls everything back. They share one connection,
    so they take turns. MariaDB and MySQL commit at every CREATE or DROP: have the tables before.
    Raises `TransactionUsageError` when the database is isolated already.
    """

    def __init__(self, database: D, source: EngineSource) -> None:
        self._database = database
        self._source = source
        self._stack = ExitStack()

    def __enter__(self) -> D:
        source = self._source
        if source.isolation is not None:
            raise TransactionUsageError("This database is isolated already; isolations do not nest.")
        with ExitStack() as stack:
            connection = stack.enter_context(source.sync().connect())
            transaction = connection.begin()
            stack.callback(transaction.rollback)
            begin_writing(connection)
            connection.execute(text("SELECT 1"))
            source.isolation = connection
            stack.callback(setattr, source, "isolation", None)
            self._stack = stack.pop_all()
        return self._database

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    async def __aenter__(self) -> D:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
