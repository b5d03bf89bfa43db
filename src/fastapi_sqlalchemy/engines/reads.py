"""Plain reads without BEGIN and ROLLBACK: a transaction of PostgreSQL starts with the first statement that needs one.

Under READ COMMITTED each statement sees its own snapshot whether it stands in a transaction or not (PostgreSQL manual,
"Transaction Isolation"), so a SELECT of tables alone costs one round trip instead of three. Everything else, a lock, a
function that may have an effect, a text, a server-side cursor, a savepoint, a write, begins the transaction first.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, cast

from sqlalchemy import Connection, Engine, PoolProxiedConnection, event
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ColumnClause, TextClause
from sqlalchemy.sql.functions import FunctionElement

from .dialects import at_each_begin, at_each_end, at_each_statement, info_of

__all__ = ["begin_late", "end_transaction_mode", "has_begun", "only_reads"]

_KEY = "fastapi_sqlalchemy.begin_late"
_PURE = frozenset({"avg", "coalesce", "count", "length", "lower", "max", "min", "nullif", "sum", "upper"})


class _State:
    """Whether the connection's transaction is still to begin, and whether its driver is out of autocommit and why."""

    __slots__ = ("begun", "has_own_level", "pending")

    def __init__(self) -> None:
        self.pending = False
        self.begun = False
        self.has_own_level = False


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

    begin_twophase = dialect.do_begin_twophase

    def do_begin_twophase(connection: Connection, xid: Any) -> None:
        state: _State | None = connection.info.get(_KEY)
        if state is not None:
            _begin_now(connection, state)
        begin_twophase(connection, xid)
        if state is not None:
            state.pending = False

    def before(_cursor: Any, _statement: str, context: Any) -> None:
        connection: Connection = context.root_connection
        state: _State | None = info_of(connection).get(_KEY)
        if state is None or not state.pending:
            return
        if "isolation_level" in connection.get_execution_options():  # the dialect has set the driver up for it
            state.pending, state.begun, state.has_own_level = False, True, True
            return
        compiled = context.compiled
        known = False
        if compiled is not None and not context._is_server_side:
            found = plain.get(compiled)
            known = plain.setdefault(compiled, _is_plain(context, compiled)) if found is None else found
        if not known:
            _begin_now(connection, state)

    reset_isolation_level = dialect.reset_isolation_level

    def reset_level(dbapi_connection: Any) -> None:
        reset_isolation_level(dbapi_connection)
        if dialect.default_isolation_level == "READ COMMITTED":
            dbapi_connection.autocommit = True

    vars(dialect)["reset_isolation_level"] = reset_level
    vars(dialect)["do_begin_twophase"] = do_begin_twophase
    at_each_begin(dialect, _begin)
    at_each_statement(dialect, before)
    at_each_end(dialect, _end)


def _end(pooled: PoolProxiedConnection) -> None:
    state: _State | None = info_of(pooled).get(_KEY)
    if state is None:
        return
    state.pending = False
    if state.begun:
        state.begun = False
        if state.has_own_level:
            state.has_own_level = False
        else:
            cast(Any, pooled.dbapi_connection).autocommit = True


def _begin(info: MutableMapping[str, Any]) -> None:
    state: _State | None = info.get(_KEY)
    if state is not None:
        state.pending = True


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


def _begin_now(connection: Connection, state: _State) -> None:
    state.pending = False
    if not state.begun:
        state.begun = True
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
