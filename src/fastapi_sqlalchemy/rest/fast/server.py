"""Reads of PostgreSQL on the async driver's own cursor, out of SQLAlchemy's pool.

SQLAlchemy's adapter of an async driver crosses from a greenlet to the event loop at every call; here only taking a
connection does. Each statement is a transaction of its own, as it is for every plain read (see ``engines.reads``).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy import exc as sa_exc
from sqlalchemy.util import greenlet_spawn

from ...admission import AsyncGatedQueuePool
from ...engines.cancellation import cancel_pooled, is_cancelled
from ...engines.liveness import is_handed_out_as_it_is, ran_out_of_time
from ...engines.reads import end_transaction_mode
from ...scope import note_work, uninterrupted
from ..operations.rows import Row
from .statement import DriverStatement, Found
from .work import GiveWay, Statements, Work

__all__ = ["ServerReads"]

T = TypeVar("T")

_QUERY_CANCELED = "57014"


class ServerReads:
    """Runs reads on pooled connections of asyncpg or psycopg."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = engine.dialect
        self._statements = Statements(engine.dialect)
        self._fetch = _DRIVERS.get(engine.dialect.driver)

    async def run(self, work: Work[T], *, snapshot: bool = False) -> T:
        """Run the statements of ``work``; raises `GiveWay` where the ordinary path has to do it.

        ``snapshot`` changes nothing: under READ COMMITTED each statement sees its own. A deadline that expires raises
        what it raises on the ordinary path; any other error is left to that.
        """
        fetch = self._fetch
        pool = self.engine.pool
        if fetch is None or not isinstance(pool, AsyncGatedQueuePool):
            raise GiveWay
        connection: Any = await self._connection(pool)
        adapted = connection.dbapi_connection
        note_work(functools.partial(cancel_pooled, self.engine, connection))
        try:
            statement, values = next(work)
            while True:
                prepared = self._statements.of(statement)
                rows = await fetch(adapted.driver_connection, prepared, prepared.parameters(values))
                try:
                    statement, values = work.send(rows)
                except StopIteration as end:
                    result: T = end.value
                    break
        except Exception as error:
            if ran_out_of_time(error):
                await uninterrupted(_forsake(connection, error))
            else:
                await self._give_back(pool, connection)
            self._raise(adapted, error)
            raise
        except BaseException as error:
            await uninterrupted(_forsake(connection, error))
            raise
        await self._give_back(pool, connection)
        return result

    async def write(self, statement: DriverStatement, values: Mapping[str, Any]) -> list[Row]:
        """Run one statement that commits by itself; raises `GiveWay` where the server has refused it."""
        fetch = self._fetch
        pool = self.engine.pool
        if fetch is None or not isinstance(pool, AsyncGatedQueuePool):
            raise GiveWay
        parameters = statement.parameters(values)
        connection: Any = await self._connection(pool)
        adapted = connection.dbapi_connection
        note_work(functools.partial(cancel_pooled, self.engine, connection))
        try:
            found = await fetch(adapted.driver_connection, statement, parameters)
        except Exception as error:
            if _was_refused(error):
                await self._give_back(pool, connection)
                if error.sqlstate == _QUERY_CANCELED:  # type: ignore[attr-defined]
                    self._raise(adapted, error)
                raise GiveWay from error
            await uninterrupted(_forsake(connection, error))
            raise self._translated(adapted, error, lost=True) from error
        except BaseException as error:
            await uninterrupted(_forsake(connection, error))
            raise
        await self._give_back(pool, connection)
        return found.processed()

    async def _connection(self, pool: AsyncGatedQueuePool) -> Any:
        """A connection in autocommit; waits for one at the gate.

        One that is idle and well is taken without a greenlet, which costs five times what the connection does: each
        has a stack of its own to be mapped.
        """
        record = await pool.admit()
        if (
            record is not None
            and is_handed_out_as_it_is(pool, record)
            and end_transaction_mode(record.info, record.dbapi_connection)
        ):
            return self._take(pool)
        return await greenlet_spawn(self._take, pool)

    def _take(self, pool: AsyncGatedQueuePool) -> Any:
        """A connection in autocommit; waits for one at the gate."""
        try:
            connection: Any = pool.connect()
        except self.dialect.loaded_dbapi.Error as error:
            self._raise(None, error)
            raise
        try:
            usable = end_transaction_mode(connection.info, connection.dbapi_connection)
        except BaseException as error:
            connection.invalidate(error)
            raise
        if not usable:
            connection.close()
            raise GiveWay
        return connection

    @staticmethod
    async def _give_back(pool: AsyncGatedQueuePool, connection: Any) -> None:
        """Return a connection that has no transaction: there is nothing to roll back, and seldom a reason to await."""
        if pool.keeps_returned and not is_cancelled(connection):
            connection._checkin(transaction_was_reset=True)
        else:
            await greenlet_spawn(connection.close)

    def _raise(self, adapted: Any, error: Exception) -> None:
        """Raise a deadline as SQLAlchemy would have, everything else as `GiveWay`."""
        if not ran_out_of_time(error) and getattr(error, "sqlstate", None) != _QUERY_CANCELED:
            raise GiveWay from error
        raise self._translated(adapted, error, lost=ran_out_of_time(error)) from error

    def _translated(self, adapted: Any, error: Exception, *, lost: bool) -> Exception:
        """An error of the driver as SQLAlchemy raises it; any other as it is."""
        base = self.dialect.loaded_dbapi.Error
        if not isinstance(error, base):
            translate: Callable[[Exception], None] | None = getattr(adapted, "_handle_exception", None)
            try:
                if translate is not None:
                    translate(error)
            except base as translated:
                error = translated
            except Exception:
                return error
        if not isinstance(error, base):
            return error
        wrapped: Exception = sa_exc.DBAPIError.instance(
            None, None, error, base, hide_parameters=True, connection_invalidated=lost, dialect=self.dialect
        )
        return wrapped


def _was_refused(error: Exception) -> bool:
    """Whether the server has answered with an error, so that it is known that nothing was changed.

    Class 08 and the end of the session (57P) say nothing of the statement (PostgreSQL manual, "Error Codes").
    """
    state = getattr(error, "sqlstate", None)
    return isinstance(state, str) and not state.startswith(("08", "57P"))


async def _forsake(connection: Any, error: BaseException) -> None:
    """Close a connection whose query may be running still."""
    driver = connection.dbapi_connection.driver_connection
    if hasattr(driver, "terminate"):  # asyncpg would wait for the server to cancel the query
        driver.terminate()
    await greenlet_spawn(connection.invalidate, error)


async def _fetch_asyncpg(driver: Any, prepared: DriverStatement, parameters: tuple[Any, ...]) -> Found:
    if prepared.is_described:
        return prepared.rows(await driver.fetch(prepared.text, *parameters), None)
    statement = await driver.prepare(prepared.text)
    description: Any = [(attribute.name, attribute.type.oid) for attribute in statement.get_attributes()]
    return prepared.rows(await statement.fetch(*parameters), description)


async def _fetch_psycopg(driver: Any, prepared: DriverStatement, parameters: Mapping[str, Any]) -> Found:
    async with driver.cursor() as cursor:
        await cursor.execute(prepared.text, parameters)
        return prepared.rows(await cursor.fetchall(), cursor.description)


_DRIVERS: Mapping[str, Callable[[Any, DriverStatement, Any], Awaitable[Found]]] = {
    "asyncpg": _fetch_asyncpg,
    "psycopg": _fetch_psycopg,
}
