"""Before the first request: wait for the database, create what is missing."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Generator
from contextlib import contextmanager

import anyio.to_thread
from sqlalchemy import MetaData
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncEngine

from ..config import masked
from ..engines import EngineSource
from ..exceptions import ConfigurationError, DatabaseUnavailableError
from ..tables import create_tables

__all__ = ["describe_failure", "start", "told_in_one_line"]

logger = logging.getLogger("fastapi_sqlalchemy")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0

_SERVER_LOG = "uvicorn.error"


async def start(source: EngineSource, metadata: MetaData, *, create: bool, wait: float = 0) -> None:
    """Connect once, and create the tables that are missing unless the database is under migrations.

    Parameters: ``wait``, seconds to keep trying while the database cannot be reached, with a growing pause.
    Raises `DatabaseUnavailableError` with one line when it cannot be reached.
    """
    wanted = create and bool(metadata.tables)
    if not wanted and not wait:
        return
    give_up = time.monotonic() + wait
    pause = _FIRST_PAUSE
    while True:
        try:
            await _prepare(source, metadata if wanted else None)
            return
        except (sa_exc.OperationalError, sa_exc.InterfaceError, OSError, TimeoutError) as error:
            if time.monotonic() + pause > give_up:
                logger.debug("The last attempt to reach the database failed:", exc_info=True)
                reason = f"The database {masked(source.url)} cannot be used: {describe_failure(error)}"
                raise DatabaseUnavailableError(reason) from None
            logger.info("The database is not there yet; trying again in %.1f seconds.", pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def _prepare(source: EngineSource, metadata: MetaData | None) -> None:
    config = source.config
    only_async = config.custom_engine is None and config.async_custom_engine is not None
    if only_async or (not source.has_sync_driver() and source.has_async_driver()):
        await _prepare_async(source.asynchronous(), metadata)
    else:
        await anyio.to_thread.run_sync(functools.partial(_prepare_sync, source, metadata))


def _prepare_sync(source: EngineSource, metadata: MetaData | None) -> None:
    with source.begin() as connection:
        if metadata is not None:
            create_tables(connection, metadata, unless_migrated=True)


async def _prepare_async(engine: AsyncEngine, metadata: MetaData | None) -> None:
    async with engine.begin() as connection:
        if metadata is not None:
            await connection.run_sync(functools.partial(create_tables, metadata=metadata, unless_migrated=True))


def describe_failure(error: BaseException) -> str:
    """The error in one line, without SQL, parameters or a traceback."""
    if isinstance(error, sa_exc.UnreflectableTableError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, sa_exc.DBAPIError) and error.orig is not None:
        error = error.orig
    if isinstance(error, (ConfigurationError, DatabaseUnavailableError)):
        return str(error)
    # PostgreSQL quotes the statement below its message
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    return f"{type(error).__name__}: {' '.join(message.split())}"


@contextmanager
def told_in_one_line() -> Generator[None, None, None]:
    """Let the log of the server tell a start that fails here in one line.

    Starlette hands the traceback of whatever ends a lifespan to the server as the reason, and uvicorn logs that. Here
    the reason is the message of the error; the traceback is logged at DEBUG.
    """
    try:
        yield
    except (ConfigurationError, DatabaseUnavailableError) as error:
        reason = str(error)
        logger.debug("The application does not start", exc_info=True)
        logging.getLogger(_SERVER_LOG).addFilter(functools.partial(_shorten, reason))
        raise


def _shorten(reason: str, record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if message.startswith("Traceback ") and reason in message:
        record.msg, record.args = reason, ()
    return True
