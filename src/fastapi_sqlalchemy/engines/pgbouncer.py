"""PgBouncer in transaction mode: nothing outlives a transaction, since the next one may run on another server.

So the statement deadline is set for each transaction, and every statement of a driver that needs two round trips for
it stands in one (PgBouncer's documentation, "Features", "SQL feature map for pooling modes").
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, Engine, event

__all__ = ["limit_transactions", "needs_transactions"]

_AUTOCOMMIT = "AUTOCOMMIT"


def needs_transactions(engine: Engine, statement_timeout: float | None) -> bool:
    """Whether a read has to stand in a transaction: for its deadline, or for a driver that prepares it first."""
    return statement_timeout is not None or engine.dialect.driver != "psycopg"


def limit_transactions(engine: Engine, statement_timeout: float | None) -> None:
    """Let the server end a statement that takes too long, by ``SET LOCAL`` at the begin of each transaction.

    psycopg takes BEGIN and SET LOCAL in one round trip.
    """
    fixed_level = getattr(engine.dialect, "_on_connect_isolation_level", None)
    if statement_timeout is None or fixed_level == _AUTOCOMMIT:
        return
    setting = f"SET LOCAL statement_timeout = {max(1, math.ceil(statement_timeout * 1000))}"
    is_psycopg = engine.dialect.driver == "psycopg"

    if is_psycopg and fixed_level is None:

        @event.listens_for(engine, "connect")
        def _connected(dbapi_connection: Any, _record: Any) -> None:
            dbapi_connection.autocommit = True

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") == _AUTOCOMMIT:
            return
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        try:
            # for an isolation level of its own the dialect has taken the driver out of autocommit: that one begins
            cursor.execute(f"BEGIN; {setting}" if is_psycopg and driver.autocommit else setting)
        finally:
            cursor.close()
