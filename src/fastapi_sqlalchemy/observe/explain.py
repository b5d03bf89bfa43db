"""Asks the database how it runs a statement that was recorded, and names the tables that it reads as a whole."""

from __future__ import annotations

import re

import anyio.to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncEngine

from ..exceptions import ExplainError
from .plans import Plan, mariadb_plan, postgresql_plan, sqlite_plan
from .statement import Statement, without_literals

__all__ = ["Plan", "aexplain", "explain"]

_EXPLAINED = frozenset({"SELECT", "WITH", "VALUES", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"})
_READS = frozenset({"SELECT", "WITH", "VALUES"})
_PREFIXES = {
    "sqlite": "EXPLAIN QUERY PLAN ",
    "postgresql": "EXPLAIN (FORMAT JSON) ",
    "mysql": "EXPLAIN FORMAT=JSON ",
    "mariadb": "EXPLAIN FORMAT=JSON ",
}
_ANALYZE = "EXPLAIN (FORMAT JSON, ANALYZE) "
_LINE_COMMENT = re.compile(r"--[^\n]*")


def explain(statement: Statement, *, analyze: bool = False) -> Plan:
    """Return the plan of a recorded statement, with the parameters that it had.

    SQLite answers EXPLAIN QUERY PLAN, PostgreSQL EXPLAIN (FORMAT JSON), MariaDB EXPLAIN FORMAT=JSON; the statement is
    not run. ``analyze`` runs it to measure it: on PostgreSQL, for reads, in a transaction that may only read and is
    rolled back. The connection is one of its own.
    Raises `ExplainError` where there is no plan: for another kind of statement, another database, a statement whose
    parameters were not kept or whose engine is gone, and for an async engine, which `aexplain` is for.
    """
    engine, text = _asked(statement, analyze)
    if engine.dialect.is_async:
        raise ExplainError("The statement ran on an async engine: await aexplain(statement).")
    with engine.connect() as connection:
        return _explain(connection, statement, text)


async def aexplain(statement: Statement, *, analyze: bool = False) -> Plan:
    """Return the plan of a recorded statement of a synchronous or an async engine; see `explain`."""
    engine, text = _asked(statement, analyze)
    if not engine.dialect.is_async:
        return await anyio.to_thread.run_sync(lambda: explain(statement, analyze=analyze))
    async with AsyncEngine(engine).connect() as connection:
        return await connection.run_sync(_explain, statement, text)


def _asked(statement: Statement, analyze: bool) -> tuple[Engine, str]:
    """The engine to ask, and what; raises `ExplainError`."""
    engine = statement.engine()
    if engine is None:
        raise ExplainError("The engine that ran the statement is gone.")
    if not statement.is_whole:
        raise ExplainError("The statement or its parameters are too large to be kept.")
    name = engine.dialect.name
    if name not in _PREFIXES:
        raise ExplainError(f"There is no EXPLAIN for {name} here; SQLite, PostgreSQL and MariaDB have one.")
    if statement.operation not in _EXPLAINED:
        raise ExplainError(f"{statement.operation or 'An empty statement'} has no plan.")
    if ";" in without_literals(_LINE_COMMENT.sub("", statement.sql)).rstrip("; \t\r\n"):
        raise ExplainError("The text may hold more than one statement: only a single one is explained.")
    if analyze and name != "postgresql":
        raise ExplainError("Only PostgreSQL's EXPLAIN measures a statement by running it; leave analyze out.")
    if analyze and statement.operation not in _READS:
        raise ExplainError(f"analyze runs the statement: it is for reads, not for {statement.operation}.")
    return engine, (_ANALYZE if analyze else _PREFIXES[name]) + statement.sql


def _explain(connection: Connection, statement: Statement, text: str) -> Plan:
    name = connection.dialect.name
    if name == "postgresql":  # the server refuses what would write, in whatever form it comes
        connection = connection.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=True)
    parameters = statement.parameters
    if statement.many:
        parameters = parameters[0] if parameters else None
    try:
        rows = connection.exec_driver_sql(text, parameters or None).all()
    except sa_exc.DBAPIError as error:
        raise ExplainError(f"The database gives no plan: {type(error.orig).__name__}.") from error
    finally:
        connection.rollback()
    if name == "sqlite":
        return sqlite_plan([(row[0], row[1], row[3]) for row in rows])
    return postgresql_plan(rows[0][0]) if name == "postgresql" else mariadb_plan(rows[0][0])
