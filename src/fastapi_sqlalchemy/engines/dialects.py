"""What an engine's dialect does beside its own work, by its methods: unlike events, these cost nothing where they rest.

An engine with listeners to ``begin`` or to statements joins them anew on every connection that is checked out, for all
of its events, which takes more time than a short read of SQLite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from sqlalchemy import Connection, PoolProxiedConnection

__all__ = ["at_each_begin", "at_each_end", "at_each_statement", "info_of"]

_NOTHING: Mapping[str, Any] = {}


def at_each_begin(dialect: Any, function: Callable[[MutableMapping[str, Any]], None]) -> None:
    """Call ``function`` with the info of the pooled connection whenever a transaction begins."""
    begin = dialect.do_begin

    def do_begin(pooled: Any) -> None:
        function(pooled.info)
        begin(pooled)

    dialect.do_begin = do_begin


def at_each_end(dialect: Any, function: Callable[[PoolProxiedConnection], None]) -> None:
    """Call ``function`` with the pooled connection after each COMMIT and ROLLBACK that did not fail."""
    commit, roll_back = dialect.do_commit, dialect.do_rollback

    def do_commit(pooled: Any) -> None:
        commit(pooled)
        function(pooled)

    def do_rollback(pooled: Any) -> None:
        roll_back(pooled)
        function(pooled)

    dialect.do_commit = do_commit
    dialect.do_rollback = do_rollback


def at_each_statement(dialect: Any, function: Callable[[Any, str, Any], None]) -> None:
    """Call ``function`` with the cursor, the SQL and the execution context before each statement."""
    execute, execute_many, execute_bare = dialect.do_execute, dialect.do_executemany, dialect.do_execute_no_params

    def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        function(cursor, statement, context)
        execute(cursor, statement, parameters, context)

    def do_executemany(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        function(cursor, statement, context)
        execute_many(cursor, statement, parameters, context)

    def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> None:
        function(cursor, statement, context)
        execute_bare(cursor, statement, context)

    dialect.do_execute = do_execute
    dialect.do_executemany = do_executemany
    dialect.do_execute_no_params = do_execute_no_params


def info_of(connection: Connection | PoolProxiedConnection) -> Mapping[str, Any]:
    """The info of a pooled connection; nothing of the one that asks the server who it is, which has none."""
    try:
        return connection.info
    except NotImplementedError:
        return _NOTHING
