"""Liveness and readiness: two routes for load balancers and container platforms."""

from __future__ import annotations

import asyncio
import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy import Engine
from sqlalchemy import exc as sa_exc
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from ..database import SQLAlchemy
from ..database import db as default_database
from ..exceptions import ConfigurationError, DatabaseUnavailableError
from .problems import Problem, ProblemResponse, problem_responses
from .sqlstate import ran_out_of_time

__all__ = ["Live", "Ready", "Unready", "health_router"]

logger = logging.getLogger("fastapi_sqlalchemy")

_NO_STORE: Final = {"Cache-Control": "no-store"}


class Live(BaseModel):
    """The process answers."""

    status: str = "live"


class Ready(BaseModel):
    """Every database answers."""

    status: str = "ready"
    databases: dict[str, str] = Field(description="The state of each database: `ok`.")


class Unready(Problem):
    """Some database does not answer."""

    databases: dict[str, str] = Field(
        description="The state of each database: `ok`, `timeout` or `database_unavailable`."
    )


def health_router(*dbs: SQLAlchemy, prefix: str = "/health", timeout: float = 2.0) -> APIRouter:
    """Return a router with ``/live``, which touches no database, and ``/ready``, which asks each of them.

    Readiness opens a connection of its own for each check: it neither waits for the pool nor takes a place in it, so
    that a busy application stays ready. Checks that come while one is running share it. The answer is a 200, or a 503
    problem; both name the state of each database, and nothing else about it.

    Args:
        dbs: the databases; the module-level ``db`` if none is given.
        prefix: the path in front of ``/live`` and ``/ready``.
        timeout: seconds that a database has to answer, also when its server is frozen.
    """
    checks = [_Check(database) for database in dbs or (default_database,)]
    router = APIRouter(prefix=prefix, tags=["health"])

    @router.get("/live")
    async def live(response: Response) -> Live:
        response.headers.update(_NO_STORE)
        return Live()

    @router.get("/ready", response_model=Ready, responses=problem_responses(503, model=Unready))
    async def ready(response: Response) -> Any:
        states = await asyncio.gather(*(check.state(timeout) for check in checks))
        names = _unique([check.database.url.get_backend_name() for check in checks])
        databases = dict(zip(names, states, strict=True))
        failed = [state for state in states if state != "ok"]
        if not failed:
            response.headers.update(_NO_STORE)
            return Ready(databases=databases)
        code = failed[0] if len(set(failed)) == 1 else "database_unavailable"
        down = ", ".join(name for name, state in databases.items() if state != "ok")
        problem = Unready(status=503, code=code, detail=f"Not ready: {down}.", databases=databases)
        return ProblemResponse(problem, headers=_NO_STORE)

    return router


class _Check:
    """Asks one database whether it answers; one question at a time."""

    def __init__(self, database: SQLAlchemy) -> None:
        self.database = database
        self._running: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[str]]
        self._running = weakref.WeakKeyDictionary()

    async def state(self, timeout: float) -> str:
        """Return ``ok``, ``timeout`` or ``database_unavailable`` within ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        task = self._running.get(loop)
        if task is None:
            task = self._running[loop] = loop.create_task(self._ask())
            task.add_done_callback(functools.partial(self._forget, loop))
        # Not wait_for: it would wait for the cancelled task, and that for a server that does not answer.
        done, _ = await asyncio.wait({task}, timeout=timeout)
        if not done:
            task.cancel()
            return "timeout"
        return "timeout" if task.cancelled() else task.result()

    def _forget(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[str]) -> None:
        self._running.pop(loop, None)
        if not task.cancelled():
            task.exception()  # so that it counts as retrieved when nobody waited to the end

    async def _ask(self) -> str:
        try:
            engine, asynchronous = self._engine()
            ask: Callable[[], None] = functools.partial(_ask_engine, engine)
            if asynchronous:
                await greenlet_spawn(ask)
            else:
                # a limiter of its own: the application's may have no thread to spare
                await anyio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
        except ConfigurationError as error:
            logger.error("Not ready: %s", error)
            return "database_unavailable"
        except _NoAnswerError as error:
            reason = error.__cause__
            logger.warning("Not ready: %s does not answer (%s).", error, type(reason).__name__)
            return "timeout" if ran_out_of_time(error) else "database_unavailable"
        return "ok"

    def _engine(self) -> tuple[Engine, bool]:
        """The engine to ask, and whether it is that of an async driver, whose wait can be given up at any time."""
        database, config = self.database, self.database.source.config
        only_async = config.custom_engine is None and config.async_custom_engine is not None
        if only_async or (database.source.has_async_driver() and database.source.dialect_name != "sqlite"):
            return database.async_engine.sync_engine, True
        return database.engine, False


class _NoAnswerError(Exception):
    """A driver's error, whichever the driver."""


def _ask_engine(engine: Engine) -> None:
    """Open a connection outside of the engine's pool, make one round trip, and close it."""
    pool = engine.pool.recreate()
    try:
        connection = pool.connect()
        try:
            _make_round_trip(engine, connection)
        except BaseException:
            connection.invalidate()
            raise
        connection.close()
    except (engine.dialect.loaded_dbapi.Error, sa_exc.DBAPIError, DatabaseUnavailableError, OSError) as error:
        raise _NoAnswerError(engine.dialect.name) from error
    finally:
        pool.dispose()


def _make_round_trip(engine: Engine, connection: PoolProxiedConnection) -> None:
    if engine.dialect.name == "sqlite":
        cursor = connection.cursor()
        cursor.execute("PRAGMA schema_version")  # reads the file, which SELECT 1 does not
        cursor.fetchone()
        cursor.close()
        return
    driver_connection = connection.dbapi_connection
    assert driver_connection is not None
    engine.dialect.do_ping(driver_connection)


def _unique(names: list[str]) -> list[str]:
    """``sqlite, sqlite`` -> ``sqlite, sqlite-2``: in the order in which the databases were given."""
    return [
        name if (number := names[: index + 1].count(name)) == 1 else f"{name}-{number}"
        for index, name in enumerate(names)
    ]
