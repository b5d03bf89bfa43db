"""PostgreSQL: deadlines held by the server and, should it freeze, by the client; PgBouncer's transaction mode."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL, ExceptionContext

__all__ = ["connect_args", "hold_deadlines"]

GRACE = 0.25
"""Seconds that the client gives the server to end a statement by itself before it drops the connection."""

OPENED_AT_MOST = 2
"""How often a connection of psycopg is opened where the server ends it while that happens."""


def connect_args(
    url: URL, *, connect_timeout: float | None, statement_timeout: float | None, pooler: str | None
) -> dict[str, Any]:
    """Driver arguments for the deadlines; PgBouncer takes no start-up options and no prepared statements."""
    driver = url.get_driver_name()
    args: dict[str, Any] = {}
    milliseconds = None if statement_timeout is None else max(1, math.ceil(statement_timeout * 1000))
    if driver == "asyncpg":
        args["timeout"] = connect_timeout
        args["command_timeout"] = None if statement_timeout is None else statement_timeout + GRACE
        if pooler == "pgbouncer":
            args["statement_cache_size"] = 0
            args["prepared_statement_cache_size"] = 0
            args["prepared_statement_name_func"] = _unique_statement_name
        elif milliseconds is not None:
            args["server_settings"] = {"statement_timeout": str(milliseconds)}
        return args
    if driver in ("psycopg", "psycopg2"):
        if connect_timeout is not None and "connect_timeout" not in url.query:
            args["connect_timeout"] = math.ceil(connect_timeout)
        if driver == "psycopg" and pooler == "pgbouncer":
            args["prepare_threshold"] = None
        if milliseconds is not None and pooler is None and "options" not in url.query:
            args["options"] = f"-c statement_timeout={milliseconds}"
    return args


def _unique_statement_name() -> str:
    return f"__asyncpg_{uuid4()}__"


def hold_deadlines(engine: Engine, statement_timeout: float | None, connect_timeout: float | None) -> None:
    """Bound every wait for the server, so that a frozen one costs a connection and not a thread."""
    if engine.dialect.driver == "asyncpg" and statement_timeout is not None:
        event.listen(engine, "handle_error", _drop_expired)
    if engine.dialect.driver != "psycopg":
        return
    sync_class, async_class = _bounded_classes(
        None if statement_timeout is None else statement_timeout + GRACE, connect_timeout
    )

    @event.listens_for(engine, "do_connect")
    def _open(dialect: Any, _record: Any, cargs: list[Any], cparams: dict[str, Any]) -> Any:
        # SQLAlchemy's caches hold dialects for ever, and a dialect this function: it must not lead to the engine.
        if dialect.is_async:
            cparams.setdefault("async_creator_fn", async_class.connect)
            return None
        return sync_class.connect(*cargs, **cparams)


def _drop_expired(context: ExceptionContext) -> None:
    """After a deadline asyncpg's connection waits for a server to cancel the statement; a frozen one never does."""
    if isinstance(context.original_exception, TimeoutError) and context.connection is not None:
        driver: Any = context.connection.connection.driver_connection
        driver.terminate()
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


def _bounded_classes(statement_bound: float | None, connect_bound: float | None) -> tuple[Any, Any]:
    """Connections whose waits end: ``bound`` seconds for an answer, changeable for the next statement."""
    import psycopg
    from psycopg import errors
    from psycopg.waiting import WAIT_R

    wait_timeout: type[Exception] = errors._WaitTimeout  # pyright: ignore[reportPrivateUsage]  # raised by wait(timeout)

    def expired(connection: Any) -> Exception:
        connection.pgconn.finish()
        return errors.ConnectionTimeout(f"the server did not answer within {connection.bound:g} seconds")

    def connecting(begin: Callable[[], Any]) -> Generator[Any, Any, Any]:
        """Hold the bound of a connect, which libpq rounds up to two seconds; psycopg looks in every 0.1 seconds.

        A server that was there and ended the connection is asked once more, in the same time: its backend may have
        been terminated. libpq keeps to itself the SQLSTATE that it was told, so that every such end counts.
        """
        give_up = math.inf if connect_bound is None else time.monotonic() + connect_bound
        generator, tries, heard = begin(), 1, False
        ready: Any = None
        while True:
            try:
                waits_for = generator.send(ready)
            except StopIteration as end:
                return end.value
            except psycopg.OperationalError:
                if not heard or tries == OPENED_AT_MOST:
                    raise
                generator, tries, heard, ready = begin(), tries + 1, False, None
                continue
            ready = yield waits_for
            heard = heard or bool(ready and waits_for[1] == WAIT_R)
            if time.monotonic() > give_up:
                generator.close()
                raise errors.ConnectionTimeout(f"the server did not accept the connection within {connect_bound:g} s")

    class BoundedConnection(psycopg.Connection[Any]):
        bound = statement_bound

        @classmethod
        def _connect_gen(cls, *args: Any, **options: Any) -> Any:
            return connecting(functools.partial(super()._connect_gen, *args, **options))

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            if timeout is not None:
                return super().wait(gen, interval, timeout)
            try:
                return super().wait(gen, interval, self.bound)
            except wait_timeout:
                raise expired(self) from None

    class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
        bound = statement_bound

        @classmethod
        def _connect_gen(cls, *args: Any, **options: Any) -> Any:
            return connecting(functools.partial(super()._connect_gen, *args, **options))

        async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            waiting: Awaitable[Any] = super().wait(gen, interval, self.bound if timeout is None else timeout)
            if timeout is not None:
                return await waiting
            try:
                return await waiting
            except wait_timeout:
                raise expired(self) from None

    return BoundedConnection, BoundedAsyncConnection
