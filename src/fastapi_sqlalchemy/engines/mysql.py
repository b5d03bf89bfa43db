"""MySQL and MariaDB: deadlines held by the server and, should it freeze, by the socket."""

from __future__ import annotations

import asyncio
import functools
import importlib
import math
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL

__all__ = ["connect_args", "limit_connects", "limit_statements"]

GRACE = 0.25


def connect_args(url: URL, *, connect_timeout: float | None, statement_timeout: float | None) -> dict[str, Any]:
    """Driver arguments for the deadlines of PyMySQL and asyncmy."""
    args: dict[str, Any] = {}
    driver = url.get_driver_name()
    if driver not in ("pymysql", "asyncmy"):
        return args
    if connect_timeout is not None:
        args["connect_timeout"] = math.ceil(connect_timeout)
    if statement_timeout is not None:
        args["read_timeout"] = statement_timeout + GRACE
        if driver == "pymysql":
            args["write_timeout"] = statement_timeout + GRACE
    return args


def limit_connects(engine: Engine, connect_timeout: float | None) -> None:
    """Bound the handshake too: the drivers' own ``connect_timeout`` ends when the socket is open."""
    driver = engine.dialect.driver
    if driver == "pymysql":

        @event.listens_for(engine, "do_connect")
        def _open(_dialect: Any, _record: Any, cargs: list[Any], cparams: dict[str, Any]) -> Any:
            if connect_timeout is None:
                return _pymysql_connection()(*cargs, **cparams)
            connection = _pymysql_connection()(*cargs, **{**cparams, "read_timeout": connect_timeout})
            connection._read_timeout = cparams.get("read_timeout")
            return connection

    if connect_timeout is None or driver != "asyncmy":
        return

    @event.listens_for(engine, "do_connect")
    def _open_async(_dialect: Any, _record: Any, _cargs: list[Any], cparams: dict[str, Any]) -> None:
        cparams.setdefault("async_creator_fn", _connect_asyncmy)

    async def _connect_asyncmy(**options: Any) -> Any:
        asyncmy: Any = importlib.import_module("asyncmy")
        try:
            async with asyncio.timeout(connect_timeout):
                return await asyncmy.connect(**options)
        except TimeoutError:
            raise asyncmy.errors.OperationalError(
                2003, f"Can't connect to MySQL server: it did not answer within {connect_timeout:g} seconds"
            ) from None


@functools.cache
def _pymysql_connection() -> Any:
    """PyMySQL's connection, with one TLS context where nothing was said of TLS.

    PyMySQL would read the system's certificates for each connection, which is most of the time that one takes to open,
    and then check none: without a CA of the user's TLS is used where the server has it.
    """
    connections: Any = importlib.import_module("pymysql.connections")

    make: Any = connections.Connection._create_ssl_ctx
    preferred: list[Any] = []

    def context(connection: Any, options: Any) -> Any:
        if options:
            return make(connection, options)
        if not preferred:
            preferred.append(make(connection, options))
        return preferred[0]

    return type("Connection", (connections.Connection,), {"_create_ssl_ctx": context})


def limit_statements(engine: Engine, statement_timeout: float | None) -> None:
    """Let the server end a statement that takes too long.

    MariaDB bounds every statement by max_statement_time in seconds, MySQL bounds SELECT by max_execution_time in
    milliseconds (the server manuals, "System Variables").
    """
    if statement_timeout is None:
        return

    @event.listens_for(engine, "connect")
    def _limit(dbapi_connection: Any, _record: Any) -> None:
        driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
        mariadb = "mariadb" in str(driver.get_server_info()).lower()
        cursor = dbapi_connection.cursor()
        try:
            if mariadb:
                cursor.execute(f"SET SESSION max_statement_time = {statement_timeout:.3f}")
            else:
                cursor.execute(f"SET SESSION max_execution_time = {math.ceil(statement_timeout * 1000)}")
        finally:
            cursor.close()
