"""Finds a connection that died in the pool, before it is handed out, without a round trip for one that did not.

A server that restarts or ends a session leaves the end of the stream readable on the socket; a quiet healthy
connection has nothing to read. Only a connection that was idle for long, or has something to read, is pinged.
"""

from __future__ import annotations

import select
import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import ExceptionContext

__all__ = [
    "PING_AFTER",
    "drop_after_failed_rollback",
    "is_handed_out_as_it_is",
    "ran_out_of_time",
    "was_lost",
    "watch_idle_connections",
]

PING_AFTER = 60.0
"""Seconds in the pool after which a connection is pinged before use (a firewall may have dropped it silently)."""

_RETURNED = "fastapi_sqlalchemy.returned"


# PostgreSQL manual, appendix A "PostgreSQL Error Codes", class 57: the server ends the session; class 08:
# asyncpg says 08003 of a stream that ends while the connection is being opened, where there is none to invalidate.
_SESSION_ENDED = frozenset({"08003", "08006", "57P01", "57P02", "57P05"})


def was_lost(error: BaseException) -> bool:
    """Whether the server, or the network, ended the connection; a deadline that expired is not that."""
    if not isinstance(error, sa_exc.DBAPIError) or ran_out_of_time(error):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _SESSION_ENDED


def ran_out_of_time(error: BaseException) -> bool:
    """Whether a deadline of the client is behind an error: a TimeoutError, or the driver's own class for it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, TimeoutError) or any(base.__name__ == "ConnectionTimeout" for base in type(link).__mro__):
            return True
        link = link.__cause__ or link.__context__
    return False


def drop_after_failed_rollback(engine: Engine) -> None:
    """Close a connection whose ROLLBACK failed: its transaction may be open still, and the next user would be in it."""

    @event.listens_for(engine, "handle_error")
    def _failed(context: ExceptionContext) -> None:
        trace = context.original_exception.__traceback__
        if trace is not None and trace.tb_frame.f_code.co_name == "_rollback_impl":
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = False


def watch_idle_connections(engine: Engine) -> None:
    """Replace a stale pooled connection by a fresh one at checkout."""
    dialect = engine.dialect

    @event.listens_for(engine, "checkin")
    def _returned(dbapi_connection: Any, record: Any) -> None:
        if dbapi_connection is not None:
            record.info[_RETURNED] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _check(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
        returned = record.info.pop(_RETURNED, None)
        if returned is None:
            return
        pending = _has_input(dbapi_connection)
        if pending is False and time.monotonic() - returned < PING_AFTER:
            return
        if pending is None and time.monotonic() - returned < 1:
            return
        try:
            alive = dialect.do_ping(dbapi_connection)
        except dialect.loaded_dbapi.Error:
            alive = False
        if not alive:
            raise sa_exc.DisconnectionError("The pooled connection was closed by the server.")


def is_handed_out_as_it_is(pool: Any, record: Any) -> bool:
    """Whether an idle connection of asyncpg leaves the pool without a ping and without another in its place.

    Nothing has to be awaited for it then. Only where `watch_idle_connections` is alone in looking at it.
    """
    returned = record.info.get(_RETURNED)
    connection = record.dbapi_connection
    if returned is None or connection is None or len(pool.dispatch.checkout) != 1 or pool._pre_ping:
        return False
    if pool._recycle > -1 or max(pool._invalidate_time, record._soft_invalidate_time) >= record.starttime:
        return False
    driver = connection.driver_connection
    return hasattr(driver, "is_closed") and not driver.is_closed() and time.monotonic() - returned < PING_AFTER / 2


def _has_input(dbapi_connection: Any) -> bool | None:
    """Whether the server has sent something to an idle connection; None if the driver does not show its socket."""
    driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    if hasattr(driver, "is_closed"):  # asyncpg hears of the end from its event loop
        return bool(driver.is_closed())
    if hasattr(driver, "pgconn"):
        if driver.closed:
            return True
        descriptor = driver.pgconn.socket
    elif getattr(driver, "_sock", None) is not None:
        descriptor = driver._sock.fileno()
    else:
        return None
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))
