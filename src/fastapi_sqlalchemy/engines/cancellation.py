"""Ends the statement that runs on a connection, in the server, from another thread or task."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection, event
from sqlalchemy.util import greenlet_spawn

__all__ = ["cancel_pooled", "cancel_statement", "drop_after_cancel", "forget_cancelled_resets", "is_cancelled"]

PATIENCE = 2.0
"""Seconds that the server has to take a request to cancel."""

_CANCELLED = "fastapi_sqlalchemy.cancelled"
_handing_over = threading.Lock()

logger = logging.getLogger("fastapi_sqlalchemy")


def drop_after_cancel(engine: Engine) -> None:
    """Close a connection whose statement was cancelled once it is returned.

    A request to cancel names a connection and not a statement, and may arrive late: the next user's would be hit.
    """

    @event.listens_for(engine, "checkin")
    def _returned(_dbapi_connection: Any, record: Any) -> None:
        with _handing_over:
            cancelled = record.info.pop(_CANCELLED, False)
        if cancelled:
            record.invalidate()


def forget_cancelled_resets(engine: Engine) -> None:
    """Keep out of the log that a connection was closed because its task was cancelled while it was being reset."""
    pool_logger: Any = engine.pool.logger
    getattr(pool_logger, "logger", pool_logger).addFilter(_is_worth_telling)


def _is_worth_telling(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


async def cancel_statement(connection: Connection) -> bool:
    """Cancel what runs on a connection that somebody else uses; see `cancel_pooled`."""
    pooled = connection._dbapi_connection  # pyright: ignore[reportPrivateUsage]  # connection may reconnect
    return pooled is not None and await cancel_pooled(connection.engine, pooled)


async def cancel_pooled(engine: Engine, pooled: PoolProxiedConnection) -> bool:
    """Cancel what runs on a connection of the pool that somebody else uses; whether a request to do so was sent.

    PostgreSQL: a CancelRequest (manual, "Canceling Requests in Progress"). MySQL and MariaDB: KILL QUERY on a
    connection of its own. SQLite: ``sqlite3_interrupt()``. Other drivers are left to their statement timeout.
    """
    cancel = _claim(engine, pooled)
    if cancel is None:
        return False
    try:
        async with asyncio.timeout(PATIENCE):
            await cancel()
    except Exception:
        logger.info("A statement could not be cancelled; it runs until its deadline.", exc_info=True)
    return True


def is_cancelled(pooled: PoolProxiedConnection) -> bool:
    """Whether the connection is closed once it is returned, for which the pool of an async engine has to await."""
    return _CANCELLED in pooled.info


def _claim(engine: Engine, fairy: Any) -> Callable[[], Awaitable[Any]] | None:
    """How to cancel, if the connection is still out; it is closed when it comes back."""
    with _handing_over:
        record = fairy._connection_record
        if record is None or record.fairy_ref is None or record.fairy_ref() is not fairy:
            return None
        driver = fairy.driver_connection
        if _interrupt_sqlite(driver):
            return _done
        cancel = _way_to_cancel(engine, driver)
        if cancel is not None:
            record.info[_CANCELLED] = True
        return cancel


def _interrupt_sqlite(driver: Any) -> bool:
    inner = getattr(driver, "_connection", driver)  # aiosqlite's
    if not isinstance(inner, sqlite3.Connection):
        return False
    inner.interrupt()
    return True


async def _done() -> None:
    pass


def _way_to_cancel(engine: Engine, driver: Any) -> Callable[[], Awaitable[Any]] | None:
    if hasattr(driver, "cancel_safe"):
        if inspect.iscoroutinefunction(driver.cancel_safe):
            return functools.partial(driver.cancel_safe, timeout=PATIENCE)
        return functools.partial(asyncio.to_thread, driver.cancel_safe, timeout=PATIENCE)
    if hasattr(driver, "_cancel_current_command"):
        return functools.partial(_cancel_asyncpg, driver)
    if hasattr(driver, "thread_id"):
        kill = functools.partial(_kill_query, engine, int(driver.thread_id()))
        return functools.partial(greenlet_spawn if engine.dialect.is_async else asyncio.to_thread, kill)
    return None


async def _cancel_asyncpg(driver: Any) -> None:
    sent = asyncio.get_running_loop().create_future()
    driver._cancel_current_command(sent)
    await sent


def _kill_query(engine: Engine, thread_id: int) -> None:
    """On a connection beside the pool, whose places may all be taken."""
    connection: Any = engine.pool._invoke_creator(None)  # type: ignore[arg-type]  # pyright: ignore
    try:
        cursor = connection.cursor()
        cursor.execute(f"KILL QUERY {thread_id}")
        cursor.close()
    finally:
        connection.close()
