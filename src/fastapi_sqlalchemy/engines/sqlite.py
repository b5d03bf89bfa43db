"""SQLite made atomic and safe: real transactions, enforced keys, WAL, a statement deadline, a shared memory database.

The sqlite3 module opens transactions by its own rules, which lose the atomicity of DDL and savepoints; here the
driver is put in autocommit mode and SQLAlchemy's BEGIN is emitted for real
(https://docs.python.org/3/library/sqlite3.html#transaction-control).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Generator, Mapping, MutableMapping
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection, event
from sqlalchemy.engine import URL
from sqlalchemy.util import await_only

from ..exceptions import ConfigurationError
from .dialects import at_each_begin, at_each_end, at_each_statement, info_of
from .errands import ErrandCursor, run_in_errands
from .write_locks import make_way, note_lock
from .write_queue import Line, line_of

__all__ = [
    "MemoryFile",
    "always_writing",
    "begin_immediate",
    "begin_writing",
    "configure_sqlite",
    "end_brief_read",
    "has_written",
    "is_memory_url",
    "share_transaction",
    "start_brief_read",
    "start_statement",
    "writes",
]

_STATE = "fastapi_sqlalchemy.sqlite"
_STEPS = 10_000
_READS = ("SELECT", "PRAGMA", "EXPLAIN", "VALUES", "WITH")


def is_memory_url(url: URL) -> bool:
    """Whether the URL names SQLite's private in-memory database."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


class MemoryFile:
    """The private file behind an in-memory URL, which every connection of one `SQLAlchemy` object shares.

    SQLite gives each connection a memory database of its own. A temporary file without fsync is seen by all threads
    and by both engines, and keeps readers apart from writers as a real file does. It is removed with its owner.
    """

    def __init__(self) -> None:
        directory = tempfile.mkdtemp(prefix="fastapi-sqlalchemy-")
        self.path = os.path.join(directory, "memory.db")
        self._owner = os.getpid()
        self.remove = weakref.finalize(self, _remove_directory, directory, self._owner)


def _remove_directory(directory: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


def begin_writing(connection: Connection) -> None:
    """Make the transaction that just began take the write lock with its first statement."""
    state: _State | None = connection.info.get(_STATE)
    if state is not None and state.pending == "BEGIN":
        state.pending = state.writer_begin


@contextlib.contextmanager
def always_writing(connection: Connection) -> Generator[None]:
    """Make every transaction that begins on this connection take the write lock with its first statement."""
    state: _State | None = connection.info.get(_STATE)
    if state is None:
        yield
        return
    state.always_writes = True
    try:
        yield
    finally:
        state.always_writes = False


def has_written(connection: Connection) -> bool:
    """Whether the transaction of a SQLite connection has run anything but reads."""
    state: _State | None = connection.info.get(_STATE)
    return state is None or state.wrote


class _State:
    """What one SQLite connection is doing: the BEGIN still to be sent, and when its statement has to stop."""

    __slots__ = (
        "always_writes",
        "begun",
        "busy_timeout",
        "deadline",
        "file",
        "is_shared",
        "line",
        "locked",
        "patience",
        "pending",
        "turns",
        "writer_begin",
        "wrote",
    )

    def __init__(self, writer_begin: str, line: Line, file: object) -> None:
        self.writer_begin = writer_begin
        self.always_writes = False
        self.line = line
        self.file = file
        self.busy_timeout: int | None = None
        self.is_shared = False
        self.begun = False
        self.pending: str | None = None
        self.locked = False
        self.wrote = False
        self.deadline = float("inf")
        self.turns: int | None = None
        self.patience: int | None = None

    def begin_again(self) -> None:
        """Its transaction has ended; the next statement begins another one like it."""
        self.locked = False
        self.pending = self.writer_begin

    def expired(self) -> bool:
        """Asked by SQLite every few thousand steps; True interrupts the statement."""
        if self.turns is not None:
            self.turns -= 1
            return self.turns < 0
        return time.monotonic() > self.deadline

    def begin_immediate(self, driver: sqlite3.Connection) -> None:
        """Wait for the write lock as long as the connection's busy timeout says, which is asked for once."""
        if self.busy_timeout is None:
            self.busy_timeout = int(driver.execute("PRAGMA busy_timeout").fetchone()[0])
        self.line.begin(driver, self.busy_timeout)


def share_transaction(info: Mapping[str, Any], other: dict[str, Any] | None) -> None:
    """Let the connection of ``other`` work in the open transaction of that of ``info``; None ends all sharing.

    Both are of pooled connections to SQLite; for other databases there is nothing to do.
    """
    state: _State | None = info.get(_STATE)
    if state is not None:
        state.is_shared = other is not None
        if other is not None:
            other[_STATE] = state


def start_statement(info: Mapping[str, Any], seconds: float | None, *, turns: int | None = None) -> bool:
    """Give what the connection runs next its deadline, and no more than ``turns`` looks of the progress handler.

    False where the connection was not configured here.
    """
    state: _State | None = info.get(_STATE)
    if state is None:
        return False
    state.deadline = float("inf") if seconds is None else time.monotonic() + seconds
    state.turns = turns
    return True


def begin_immediate(info: Mapping[str, Any], driver: sqlite3.Connection) -> None:
    """Begin to write on a pooled connection that was configured here; see `Line.begin`."""
    state: _State = info[_STATE]
    state.locked = True
    state.begin_immediate(driver)


def start_brief_read(info: Mapping[str, Any], driver: sqlite3.Connection, turns: int) -> bool:
    """Let what the connection runs next end after ``turns`` looks of the progress handler, and never wait for a lock.

    ``info`` is that of the pooled connection. False where the connection was not configured here.
    """
    state: _State | None = info.get(_STATE)
    if state is None:
        return False
    state.turns = turns
    if state.patience is not None:
        driver.execute("PRAGMA busy_timeout = 0")
    return True


def end_brief_read(info: Mapping[str, Any], driver: sqlite3.Connection) -> None:
    """Put back what `start_brief_read` changed."""
    state: _State = info[_STATE]
    state.turns = None
    if state.patience is not None:
        driver.execute(f"PRAGMA busy_timeout = {state.patience}")


def configure_sqlite(
    engine: Engine, settings: Mapping[str, Any], statement_timeout: float | None, memory: MemoryFile | None
) -> None:
    """Install the rules on every connection of ``engine`` (for an async engine: its ``sync_engine``)."""
    url = engine.url
    _check_directory(url)
    always_autocommit = getattr(engine.dialect, "_on_connect_isolation_level", None) == "AUTOCOMMIT"
    begins = settings["begin"] is not None and not always_autocommit
    line = line_of(str(url.database if memory is None else memory.path))

    dialect: Any = engine.dialect
    _undo_failed_commits(dialect)
    if dialect.is_async:
        dialect.do_terminate = _terminate
        run_in_errands(dialect)

    @event.listens_for(engine, "do_connect")
    def _open(_dialect: Any, _record: Any, cargs: list[Any], _cparams: dict[str, Any]) -> None:
        if memory is not None:
            cargs[0] = memory.path
        else:
            _check_directory(url)

    @event.listens_for(engine, "connect")
    def _connected(dbapi_connection: Any, record: Any) -> None:
        # a private memory database is nobody else's
        file = object() if memory is None and is_memory_url(url) else line
        state = _State("BEGIN IMMEDIATE" if settings["begin"] == "immediate" else "BEGIN", line, file)
        record.info[_STATE] = state
        _set_progress_handler(dbapi_connection, state.expired)
        if begins:
            dbapi_connection.isolation_level = None
        try:
            _set_pragmas(dbapi_connection, settings, memory, asynchronous=engine.dialect.is_async)
            if not engine.dialect.is_async:
                state.patience = _reader_patience(dbapi_connection)
        except BaseException:
            # The pool has not taken the connection yet, and closes it for nobody.
            if engine.dialect.is_async:
                _terminate(dbapi_connection)
            else:
                dbapi_connection.close()
            raise

    if begins:
        at_each_begin(engine.dialect, _begin)
        at_each_end(engine.dialect, _end)

    def before(cursor: Any, statement: str, context: Any) -> None:
        connection: Connection = context.root_connection
        state: _State | None = info_of(connection).get(_STATE)
        if state is None:
            return
        if statement_timeout is not None:
            state.deadline = time.monotonic() + statement_timeout
        if state.pending is not None and connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            state.pending, state.begun = None, False
        is_first_write = not state.wrote and writes(statement, context)
        begin = state.writer_begin if is_first_write and state.pending is not None else state.pending
        if is_first_write or begin == "BEGIN IMMEDIATE":
            if not make_way(state, writes=is_first_write):
                begin = "BEGIN"
            elif state.begun:
                note_lock(connection, state)
        if is_first_write:
            state.wrote = True
        if begin is not None:
            start = state.begin_immediate if begin == "BEGIN IMMEDIATE" else _begin_deferred
            state.pending = None
            if isinstance(cursor, ErrandCursor):
                cursor.begin = start
            else:
                driver: Any = connection.connection.dbapi_connection
                start(driver)

    at_each_statement(engine.dialect, before)


def _begin_deferred(driver: sqlite3.Connection) -> None:
    driver.execute("BEGIN")


def _begin(info: MutableMapping[str, Any]) -> None:
    state: _State | None = info.get(_STATE)
    if state is not None and not state.is_shared:
        state.pending, state.begun = state.writer_begin if state.always_writes else "BEGIN", True
        state.wrote = state.locked = False


def _end(pooled: PoolProxiedConnection) -> None:
    state: _State | None = info_of(pooled).get(_STATE)
    if state is not None and (state.wrote or state.locked):
        state.locked = False
        state.line.freed()


def _undo_failed_commits(dialect: Any) -> None:
    """After a COMMIT that failed SQLite's transaction is open still, and SQLAlchemy holds it for ended."""
    commit = dialect.do_commit

    def commit_or_roll_back(dbapi_connection: Any) -> None:
        try:
            commit(dbapi_connection)
        except Exception:
            dialect.do_rollback(dbapi_connection)
            raise

    dialect.do_commit = commit_or_roll_back


def _terminate(dbapi_connection: Any) -> None:
    """Give up a connection whose task was cancelled: end its statement, and let its own thread close it.

    aiosqlite's close() waits for that thread; interrupted by a second cancellation, it would wait for ever. Asked from
    a thread without an event loop, its stop() answers to nobody: the loop may be closed by then.
    """
    driver = dbapi_connection.driver_connection
    if driver._connection is not None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed in this moment
            driver._connection.interrupt()
    stop = threading.Thread(target=driver.stop)
    stop.start()
    stop.join()


def writes(statement: str, context: Any) -> bool:
    """Whether a statement may change or lock something, as far as its first words and its construct tell."""
    compiled = getattr(context, "compiled", None)
    if compiled is not None:
        if context.isinsert or context.isupdate or context.isdelete:
            return True
        if getattr(compiled.statement, "_for_update_arg", None) is not None:
            return True
    head = statement.lstrip(" \t\r\n(")[:7].upper()
    if not head.startswith(_READS):
        return True
    return head.startswith("WITH") and any(
        word in statement.upper() for word in ("INSERT INTO", "UPDATE ", "DELETE FROM", "REPLACE INTO")
    )


def _check_directory(url: URL) -> None:
    database = url.database
    if is_memory_url(url) or database is None or database.startswith("file:"):
        return
    directory = os.path.dirname(os.path.abspath(database))
    if not os.path.isdir(directory):
        raise ConfigurationError(
            f"The directory of the SQLite file does not exist: {directory}. Create it, or correct the URL "
            "(sqlite:///relative.db, sqlite:////absolute/path.db)."
        )


def _set_progress_handler(dbapi_connection: Any, handler: Any) -> None:
    driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    if isinstance(driver, sqlite3.Connection):
        driver.set_progress_handler(handler, _STEPS)
    else:
        await_only(driver.set_progress_handler(handler, _STEPS))


def _set_pragmas(
    dbapi_connection: Any, settings: Mapping[str, Any], memory: MemoryFile | None, *, asynchronous: bool
) -> None:
    cursor = dbapi_connection.cursor()
    try:
        if settings["busy_timeout"] is not None:
            cursor.execute(f"PRAGMA busy_timeout = {int(settings['busy_timeout'] * 1000)}")
        if settings["foreign_keys"] is not None:
            cursor.execute(f"PRAGMA foreign_keys = {'ON' if settings['foreign_keys'] else 'OFF'}")
        if memory is not None:
            cursor.execute("PRAGMA synchronous = OFF")
        if settings["journal_mode"] is not None:
            _set_journal_mode(cursor, str(settings["journal_mode"]), settings["busy_timeout"] or 0, asynchronous)
    finally:
        cursor.close()


def _reader_patience(driver: sqlite3.Connection) -> int | None:
    """Milliseconds that a reader may wait for a lock; None with a write-ahead log, where it waits for nobody."""
    if str(driver.execute("PRAGMA journal_mode").fetchone()[0]).lower() in ("wal", "memory"):
        return None
    return int(driver.execute("PRAGMA busy_timeout").fetchone()[0])


def _set_journal_mode(cursor: Any, mode: str, patience: float, asynchronous: bool) -> None:
    """Change the journal mode if it is another; a change needs the file for a moment, so others are waited for."""
    if not mode.isidentifier():
        raise ConfigurationError(f"{mode!r} is no journal mode of SQLite.")
    cursor.execute("PRAGMA journal_mode")
    row = cursor.fetchone()
    if row is not None and str(row[0]).lower() in (mode.lower(), "memory"):
        return
    give_up = time.monotonic() + patience
    while True:
        try:
            cursor.execute(f"PRAGMA journal_mode = {mode}")
            cursor.fetchone()
            return
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                return
            if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > give_up:
                raise
        if asynchronous:
            await_only(asyncio.sleep(0.01))
        else:
            time.sleep(0.01)
