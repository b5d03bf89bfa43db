"""``db.isolated()``: everything inside goes over one connection and is rolled back at the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Generic, TypeVar

from sqlalchemy import text

from .engines import EngineSource
from .engines.shared_engine import SharedConnection
from .engines.sqlite import begin_writing
from .exceptions import TransactionUsageError
from .scope import levels

__all__ = ["Isolation"]

D = TypeVar("D")


class Isolation(Generic[D]):
    """For ``with`` or ``async with`` in tests; yields the database.

    Sessions opened inside, sync and async, in any thread or event loop, and connections of ``db.engine`` and
    ``db.async_engine`` work in one outer transaction, each by a savepoint of its own: a commit of the code under test
    releases it, and the end rolls everything back. Who writes has the turn until its transaction ends; the others wait
    at most ``pool_timeout`` seconds. MariaDB and MySQL commit at every CREATE or DROP: have the tables before.
    Raises `TransactionUsageError` when the database is isolated already, for a turn that does not come, and at the end
    where something has ended the outer transaction.
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
            shared = SharedConnection(connection, source.config.pool_timeout, levels)
            stack.push(_end_of(shared))
            source.isolation = shared
            stack.callback(setattr, source, "isolation", None)
            self._stack = stack.pop_all()
        return self._database

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    async def __aenter__(self) -> D:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _end_of(
    shared: SharedConnection,
) -> Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], None]:
    def end(_kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            shared.end()
        except TransactionUsageError as ended:
            if error is None:
                raise
            error.add_note(str(ended))

    return end
