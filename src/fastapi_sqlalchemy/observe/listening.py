"""Follows what all engines do by one set of listeners, for as many observers as there are; asleep without one."""

from __future__ import annotations

import threading
import time
import weakref
from contextvars import ContextVar
from typing import Any, Literal

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.cursor import CursorFetchStrategy

from ..engines.listeners import note_shared_listeners
from ..engines.registry import watch_engines
from .codeline import caller
from .statement import Interval, LazyLoad, Statement

__all__ = ["Observer"]

_KEY = "_fastapi_sqlalchemy_statement"


class Observer:
    """Is told of statements from ``start()`` to ``stop()``.

    By default those of the current context: the task and the tasks and threads that it hands work to. ``everywhere``
    observes every thread. ``line_from`` are the seconds in the driver from which the user's line of a statement is
    looked up; at 0 it is known when the statement starts.
    """

    everywhere = False
    line_from = 0.0
    is_active = False

    def started(self, statement: Statement) -> None:
        """A statement starts now."""

    def executed(self, statement: Statement) -> None:
        """A statement was executed, or failed; rows of it may still be fetched."""

    def finished(self, statement: Statement) -> None:
        """A statement was executed, and its rows are read or given up."""

    def spent(self, interval: Interval) -> None:
        """A connection was waited for, or a transaction was committed."""

    def start(self) -> None:
        """Observe from now on."""
        global _everywhere
        _listen()
        self.is_active = True
        if self.everywhere:
            with _lock:
                _everywhere = (*_everywhere, self)
        else:
            _here.set((*_here.get(), self))
        _count(1)

    def stop(self) -> None:
        """Observe no more, wherever the context was handed on to."""
        global _everywhere
        self.is_active = False
        if self.everywhere:
            with _lock:
                _everywhere = tuple(one for one in _everywhere if one is not self)
        else:
            _here.set(tuple(one for one in _here.get() if one is not self))
        _count(-1)


_here: ContextVar[tuple[Observer, ...]] = ContextVar("fastapi_sqlalchemy_observers", default=())
_everywhere: tuple[Observer, ...] = ()
_lock = threading.Lock()
_LISTENERS = 3
_listening = False
_observing = 0


def _listen() -> None:
    """Listen to every engine from the first observer on.

    The listeners stay: SQLAlchemy's collections must not change while another thread executes. Without an observer
    they return at once.
    """
    global _listening
    with _lock:
        if _listening:
            return
        _listening = True
        event.listen(Engine, "before_cursor_execute", _before)
        event.listen(Engine, "after_cursor_execute", _after)
        event.listen(Engine, "handle_error", _failed)
    watch_engines(_time)


def _count(change: int) -> None:
    """Count the observers at work: without one, reads may go past the listeners again."""
    global _observing
    with _lock:
        _observing += change
        note_shared_listeners(_LISTENERS, resting=not _observing)


def _interested() -> tuple[Observer, ...]:
    here = _here.get()
    return _everywhere if not here else (*_everywhere, *(one for one in here if one.is_active))


def _before(connection: Connection, _cursor: Any, sql: str, parameters: Any, context: Any, many: bool) -> None:
    interested = _interested()
    if not interested:
        return
    statement = Statement(
        sql=sql,
        parameters=parameters,
        many=many,
        started=0.0,
        line=caller() if any(not observer.line_from for observer in interested) else None,
        lazy=_lazy_load(context),
        is_select=_is_select(context),
        engine=weakref.ref(connection.engine),
    )
    setattr(context, _KEY, (statement, interested))
    for observer in interested:
        observer.started(statement)
    statement.started = time.perf_counter()


def _after(_connection: Connection, cursor: Any, _sql: str, _parameters: Any, context: Any, _many: bool) -> None:
    noted: tuple[Statement, tuple[Observer, ...]] | None = getattr(context, _KEY, None)
    if noted is None:
        return
    statement, interested = noted
    statement.seconds = time.perf_counter() - statement.started
    _look_up_line(statement, interested)
    for observer in interested:
        observer.executed(statement)
    if cursor.description is None:
        statement.rows = cursor.rowcount if cursor.rowcount >= 0 else None
    elif type(context.cursor_fetch_strategy) is CursorFetchStrategy and not context._is_server_side:
        statement.rows = 0
        context.cursor_fetch_strategy = _CountingFetch(statement, interested)
        return
    for observer in interested:
        observer.finished(statement)


def _failed(failure: ExceptionContext) -> None:
    noted: tuple[Statement, tuple[Observer, ...]] | None = getattr(failure.execution_context, _KEY, None)
    if noted is None:
        return
    statement, interested = noted
    statement.error = type(failure.original_exception).__name__
    if statement.seconds is None:
        statement.seconds = time.perf_counter() - statement.started
        _look_up_line(statement, interested)
        for observer in interested:
            observer.executed(statement)
            observer.finished(statement)


def _look_up_line(statement: Statement, interested: tuple[Observer, ...]) -> None:
    if statement.line is None and any(statement.total >= observer.line_from for observer in interested):
        statement.line = caller()


def _time(engine: Engine) -> None:
    """Time the waits and commits of an engine; neither has an event that tells its end."""
    pool: Any = engine.pool
    if hasattr(pool, "checkout_timers"):
        pool.checkout_timers = (*pool.checkout_timers, _waited)
    commit = engine.dialect.do_commit

    def timed_commit(connection: Any) -> None:
        started = time.perf_counter()
        commit(connection)
        _spent("commit", time.perf_counter() - started)

    vars(engine.dialect)["do_commit"] = timed_commit


def _waited(seconds: float) -> None:
    _spent("wait", seconds)


def _spent(kind: Literal["wait", "commit"], seconds: float) -> None:
    interested = _interested()
    if interested:
        interval = Interval(kind, time.perf_counter() - seconds, seconds)
        for observer in interested:
            observer.spent(interval)


class _CountingFetch(CursorFetchStrategy):
    """Fetches as always, counts the rows and takes the time."""

    __slots__ = ("_fetching", "_interested", "_over", "_statement")

    def __init__(self, statement: Statement, interested: tuple[Observer, ...]) -> None:
        self._statement = statement
        self._interested = interested
        self._fetching = False
        self._over = False

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:
        row = self._timed(super().fetchone, result, dbapi_cursor, hard_close)
        self._count(0 if row is None else 1)
        return row

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        rows = self._timed(super().fetchmany, result, dbapi_cursor, size)
        self._count(len(rows))
        return rows

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        rows = self._timed(super().fetchall, result, dbapi_cursor)
        self._count(len(rows))
        return rows

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        super().soft_close(result, dbapi_cursor)
        self._close()

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        super().hard_close(result, dbapi_cursor)
        self._close()

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        super().yield_per(result, dbapi_cursor, num)
        self._statement.rows = None  # another strategy fetches them
        self._close()

    def __del__(self) -> None:
        self._close()  # a result that nobody read to its end

    def _timed(self, fetch: Any, *arguments: Any) -> Any:
        started = time.perf_counter()
        self._fetching = True
        try:
            return fetch(*arguments)
        except BaseException:
            self._fetching = False
            self._close()
            raise
        finally:
            self._statement.fetching += time.perf_counter() - started

    def _count(self, rows: int) -> None:
        self._fetching = False
        self._statement.rows = (self._statement.rows or 0) + rows
        _look_up_line(self._statement, self._interested)
        if self._over:
            self._tell()

    def _close(self) -> None:
        if not self._over:
            self._over = True
            if not self._fetching:
                self._tell()

    def _tell(self) -> None:
        for observer in self._interested:
            observer.finished(self._statement)


def _is_select(context: Any) -> bool:
    compiled = getattr(context, "compiled", None)
    return bool(compiled is not None and getattr(compiled.statement, "is_select", False))


def _lazy_load(context: Any) -> LazyLoad | None:
    """What SQLAlchemy says of a lazy load in the options of its own statement (`sqlalchemy.orm.strategies`)."""
    options = context.execution_options.get("_sa_orm_load_options")
    if options is None:
        return None
    compile_options = getattr(getattr(context, "invoked_statement", None), "_compile_options", None)
    state = options._lazy_loaded_from
    if state is not None and compile_options is not None:
        chain = tuple(element for element in compile_options._current_path.path if hasattr(element, "direction"))
        if not chain:
            return None
        return LazyLoad(state.class_, chain[-1].key, "relationship", state.key or id(state), chain)
    state = options._refresh_state
    wanted = getattr(compile_options, "_only_load_props", None)
    if state is None or not wanted:
        return None
    columns = [prop for prop in state.mapper.column_attrs if prop.key in wanted]
    above = tuple(element for element in state.load_path.path if hasattr(element, "direction"))
    is_deferred = bool(columns) and all(prop.deferred for prop in columns)
    names = ", ".join(sorted(prop.key for prop in columns))
    return LazyLoad(
        state.class_, names, "deferred" if is_deferred else "expired", state.key or id(state), (*above, *columns)
    )
