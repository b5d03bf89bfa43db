"""Plain reads without BEGIN and ROLLBACK: a transaction of PostgreSQL starts with the first statement that needs one.

Under READ COMMITTED each statement sees its own snapshot whether it stands in a transaction or not (PostgreSQL manual,
"Transaction Isolation"), so a SELECT of tables alone costs one round trip instead of three. Everything else, a lock, a
function that may have an effect, a text, a server-side cursor, a savepoint, a write, begins the transaction first.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any, cast

from sqlalchemy import Connection, Engine, event
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ColumnClause, TextClause
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["begin_late", "end_transaction_mode", "has_begun", "only_reads"]

_KEY = "fastapi_sqlalchemy.begin_late"
_PURE = frozenset({"avg", "coalesce", "count", "length", "lower", "max", "min", "nullif", "sum", "upper"})


class _State:
    """Whether the connection's transaction is still to begin, and whether its driver is out of autocommit."""

    __slots__ = ("begun", "pending")

    def __init__(self) -> None:
        self.pending = False
        self.begun = False


def begin_late(engine: Engine) -> None:
    """Keep the driver in autocommit until a statement needs a transaction.

    An engine or connection with an isolation level of its own, and a server whose default is another than READ
    COMMITTED, begins at once as always.
    """
    dialect = engine.dialect
    if (
        dialect.driver not in ("psycopg", "asyncpg")
        or getattr(dialect, "_on_connect_isolation_level", None) is not None
    ):
        return
    plain: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()

    @event.listens_for(engine, "connect")
    def _connected(dbapi_connection: Any, record: Any) -> None:
        if dialect.default_isolation_level == "READ COMMITTED":
            record.info[_KEY] = _State()
            dbapi_connection.autocommit = True

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        state: _State | None = connection.info.get(_KEY)
        if state is None:
            return
        if "isolation_level" in connection.get_execution_options():
            # The dialect has set the driver up for that level, and resets it when the connection is returned.
            state.pending, state.begun = False, True
            return
        if state.begun:
            _driver_connection(connection).autocommit = True
            state.begun = False
        state.pending = True

    @event.listens_for(engine, "begin_twophase")
    def _begin_twophase(connection: Connection, _xid: Any) -> None:
        _begin_now(connection)

    @event.listens_for(engine, "before_cursor_execute")
    def _before(
        connection: Connection, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        state: _State | None = connection.info.get(_KEY)
        if state is None or not state.pending:
            return
        compiled = context.compiled
        if compiled is None or context._is_server_side:
            _begin_now(connection)
            return
        known = plain.get(compiled)
        if known is None:
            known = plain[compiled] = _is_plain(context, compiled)
        if not known:
            _begin_now(connection)


def has_begun(connection: Connection) -> bool:
    """Whether the server may know of a transaction on this connection, so that its end takes a round trip."""
    if connection.closed or connection.invalidated:
        return True
    state: _State | None = connection.info.get(_KEY)
    return state is None or state.begun


def end_transaction_mode(info: Mapping[str, Any], dbapi_connection: Any) -> bool:
    """Put an idle pooled connection in autocommit, where each SELECT is a transaction of its own.

    False where the connection begins its transactions at once: plain reads stand in one there.
    """
    state: _State | None = info.get(_KEY)
    if state is None:
        return False
    if state.begun:
        dbapi_connection.autocommit = True
        state.begun = False
    return True


def _begin_now(connection: Connection) -> None:
    state: _State | None = connection.info.get(_KEY)
    if state is not None and not state.begun:
        state.pending, state.begun = False, True
        _driver_connection(connection).autocommit = False


def _driver_connection(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def _is_plain(context: Any, compiled: Any) -> bool:
    """Whether the statement reads tables and does nothing else."""
    if context.isinsert or context.isupdate or context.isdelete or context.isddl:
        return False
    statement = getattr(compiled.compile_state, "statement", None)
    if statement is None:
        statement = compiled.statement
    if not getattr(statement, "is_select", False):
        return False
    return only_reads(statement)


def only_reads(statement: Any) -> bool:
    """Whether a SELECT has no part that may lock or change anything."""
    nodes: Iterable[Any] = visitors.iterate(statement)
    return not any(_may_have_an_effect(node) for node in nodes)


def _may_have_an_effect(node: Any) -> bool:
    if isinstance(node, FunctionElement):
        return str(getattr(cast(object, node), "name", "")).lower() not in _PURE
    if isinstance(node, ColumnClause):
        return bool(node.is_literal) and node.name != "*"
    if isinstance(node, (TextClause, UpdateBase)):
        return True
    return getattr(node, "_for_update_arg", None) is not None or bool(getattr(node, "_prefixes", ()))
