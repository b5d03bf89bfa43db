"""Records the statements that engines execute: what, how long, how many rows, and from which line of the user."""

from __future__ import annotations

import threading
import time
import weakref
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.cursor import CursorFetchStrategy

from ..engines.listeners import note_shared_listeners
from .codeline import CodeLine, caller

__all__ = ["LazyLoad", "Recorder", "Statement"]

_KEY = "_fastapi_sqlalchemy_statement"


@dataclass(frozen=True, slots=True)
class LazyLoad:
    """What an object loaded by itself when an attribute of it was read.

    ``chain`` are the attributes from the object that a query named down to the one that was read; ``parent`` tells
    objects apart; ``kind`` is "relationship", "deferred" (a column left out on purpose) or "expired".
    """

    model: type
    attribute: str
    kind: str
    parent: object
    chain: tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Statement:
    """One execution on a cursor.

    ``started`` is a reading of ``time.perf_counter()``; ``seconds`` is the time in the driver's execute, None while it
    runs. ``rows`` are those fetched by now, or those changed; None where the driver does not say. ``many`` says that
    ``parameters`` is a list of sets. ``error`` is the class of the error that it ended with.
    """

    sql: str
    parameters: Any = field(repr=False)
    many: bool
    started: float
    line: CodeLine | None
    lazy: LazyLoad | None
    is_select: bool
    engine: weakref.ref[Engine] = field(repr=False)
    seconds: float | None = None
    rows: int | None = None
    error: str | None = None

    @property
    def operation(self) -> str:
        """The first word: SELECT, INSERT, UPDATE, ..."""
        words = self.sql.split(None, 1)
        return words[0].upper() if words else ""


class Recorder:
    """Records statements while it is entered, by ``with`` or ``async with``.

    By default those of the current context: the task and the tasks and threads that it hands work to. ``everywhere``
    records those of every thread. ``limit`` is the number of statements that are kept; ``count`` counts on.
    """

    def __init__(self, *, everywhere: bool = False, limit: int = 10_000) -> None:
        self.statements: list[Statement] = []
        self.count = 0
        self.everywhere = everywhere
        self.limit = limit

    @property
    def seconds(self) -> float:
        """The time in the driver of the statements that are kept, in seconds."""
        return sum(statement.seconds or 0.0 for statement in self.statements)

    def add(self, statement: Statement) -> None:
        """Note a statement that starts now."""
        self.count += 1
        if len(self.statements) < self.limit:
            self.statements.append(statement)

    def finished(self, statement: Statement) -> None:
        """A statement that was noted has ended."""

    def start(self) -> None:
        """Record from now on."""
        global _everywhere
        _listen()
        if self.everywhere:
            with _lock:
                _everywhere = (*_everywhere, self)
        else:
            _here.set((*_here.get(), self))
        _count(1)

    def stop(self) -> None:
        """Record no more."""
        global _everywhere
        if self.everywhere:
            with _lock:
                _everywhere = tuple(one for one in _everywhere if one is not self)
        else:
            _here.set(tuple(one for one in _here.get() if one is not self))
        _count(-1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


_here: ContextVar[tuple[Recorder, ...]] = ContextVar("fastapi_sqlalchemy_recorders", default=())
_everywhere: tuple[Recorder, ...] = ()
_lock = threading.Lock()
_LISTENERS = 3
_listening = False
_recording = 0


def _listen() -> None:
    """Listen to every engine from the first recorder on.

    The listeners stay: SQLAlchemy's collections must not change while another thread executes. Without a recorder
    they return at once.
    """
    global _listening
    with _lock:
        if not _listening:
            _listening = True
            event.listen(Engine, "before_cursor_execute", _before)
            event.listen(Engine, "after_cursor_execute", _after)
            event.listen(Engine, "handle_error", _failed)


def _count(change: int) -> None:
    """Count the recorders at work: without one, reads may go past the listeners again."""
    global _recording
    with _lock:
        _recording += change
        note_shared_listeners(_LISTENERS, resting=not _recording)


def _before(connection: Connection, _cursor: Any, sql: str, parameters: Any, context: Any, many: bool) -> None:
    interested = (*_everywhere, *_here.get())
    if not interested:
        return
    statement = Statement(
        sql=sql,
        parameters=parameters,
        many=many,
        started=0.0,
        line=caller(),
        lazy=_lazy_load(context),
        is_select=_is_select(context),
        engine=weakref.ref(connection.engine),
    )
    setattr(context, _KEY, (statement, interested))
    for recorder in interested:
        recorder.add(statement)
    statement.started = time.perf_counter()


def _after(_connection: Connection, cursor: Any, _sql: str, _parameters: Any, context: Any, _many: bool) -> None:
    noted: tuple[Statement, tuple[Recorder, ...]] | None = getattr(context, _KEY, None)
    if noted is None:
        return
    statement, interested = noted
    statement.seconds = time.perf_counter() - statement.started
    if cursor.description is None:
        statement.rows = cursor.rowcount if cursor.rowcount >= 0 else None
    elif type(context.cursor_fetch_strategy) is CursorFetchStrategy and not context._is_server_side:
        statement.rows = 0
        context.cursor_fetch_strategy = _CountingFetch(statement)
    for recorder in interested:
        recorder.finished(statement)


def _failed(failure: ExceptionContext) -> None:
    noted: tuple[Statement, tuple[Recorder, ...]] | None = getattr(failure.execution_context, _KEY, None)
    if noted is None:
        return
    statement, interested = noted
    if statement.seconds is None:
        statement.seconds = time.perf_counter() - statement.started
        statement.error = type(failure.original_exception).__name__
        for recorder in interested:
            recorder.finished(statement)


class _CountingFetch(CursorFetchStrategy):
    """Fetches as always and counts the rows."""

    __slots__ = ("_statement",)

    def __init__(self, statement: Statement) -> None:
        self._statement = statement

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:
        row = super().fetchone(result, dbapi_cursor, hard_close)
        self._count(0 if row is None else 1)
        return row

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        rows = super().fetchmany(result, dbapi_cursor, size)
        self._count(len(rows))
        return rows

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        rows = super().fetchall(result, dbapi_cursor)
        self._count(len(rows))
        return rows

    def _count(self, rows: int) -> None:
        self._statement.rows = (self._statement.rows or 0) + rows


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
