"""The session classes: one user at a time, nothing after the end, callbacks after a real commit."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

import sqlalchemy.orm
from greenlet import getcurrent
from sqlalchemy import Connection, event
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncSession as _AsyncSession
from sqlalchemy.ext.asyncio import AsyncSessionTransaction as _AsyncSessionTransaction
from sqlalchemy.orm import SessionTransaction, SessionTransactionOrigin

from .engines.listeners import Listeners
from .engines.liveness import was_lost
from .engines.positions import Watermark
from .engines.reads import only_reads
from .engines.replicas import ReadRoute, position_after_commit
from .engines.sqlite import begin_writing
from .exceptions import ConcurrentSessionUseError, ReadOnlyError, SessionClosedError

__all__ = ["AsyncSession", "Callback", "Session", "are_sessions_observed", "own_listeners"]

Callback = Callable[[], Any]

READ_AGAIN = 3
"""How often the first read of a transaction is begun again when its connection was lost, be it ended by an operator."""

logger = logging.getLogger("fastapi_sqlalchemy")


class Session(sqlalchemy.orm.Session):
    """A SQLAlchemy session that knows its limits.

    It refuses work after ``close()`` (`SessionClosedError`) and use by two threads or tasks at one moment
    (`ConcurrentSessionUseError`), and it runs the functions given to ``on_commit()`` after each real commit.
    ``writing`` says that its transactions are expected to write; ``read_only`` that they must not. ``route`` chooses
    the server for each transaction of a session that reads; ``watermark`` is told of what the session commits.
    """

    def __init__(
        self,
        bind: Any = None,
        *,
        writing: bool = False,
        read_only: bool = False,
        route: ReadRoute | None = None,
        watermark: Watermark | None = None,
        **options: Any,
    ) -> None:
        options.setdefault("close_resets_only", False)
        super().__init__(bind=bind, **options)
        self.route = route
        self.watermark = watermark
        self.writing = writing
        self.read_only = read_only
        self.wrote = False
        self.first_used_on_loop: bool | None = None
        self._user: int | None = None
        self._busy = threading.Lock()
        self._ended = False
        self._callbacks: list[tuple[SessionTransaction | None, Callback]] = []
        self.due: list[Callback] = []

    def on_commit(self, function: Callback) -> None:
        """Call ``function`` once the current transaction is really committed; never if it is rolled back."""
        if self._ended:
            raise SessionClosedError
        self._callbacks.append((self.get_nested_transaction() or self.get_transaction(), function))

    def forget_callbacks(self) -> None:
        """Drop what was registered with ``on_commit()``."""
        self._callbacks.clear()

    @property
    def has_callbacks(self) -> bool:
        """Whether functions wait for a commit, or async ones for somebody who awaits them."""
        return bool(self._callbacks or self.due)

    @property
    def ended(self) -> bool:
        """Whether the session is closed for good."""
        return self._ended

    @property
    def idle(self) -> bool:
        """Whether nobody is inside one of its operations now."""
        return not self._busy.locked()

    @property
    def pending(self) -> bool:
        """Whether a flush would write."""
        return not self._is_clean()

    @property
    def has_changes(self) -> bool:
        """Whether the transaction has written, or a flush would."""
        return self.wrote or not self._is_clean()

    def connections(self) -> set[Connection]:
        """The connections of the transaction that is open."""
        transaction = self.get_transaction()
        taken: Any = () if transaction is None else transaction._connections.values()  # pyright: ignore[reportPrivateUsage]
        return {entry[0] for entry in list(taken)}

    def end(self) -> None:
        """Refuse all further work; what runs at this moment may finish its statement."""
        self._ended = True

    def _enter(self) -> bool:
        # its number and not the greenlet: kept by the traceback of an error, it would outlive its thread
        me = id(getcurrent())
        if self._user == me:
            return False
        if self._ended:
            raise SessionClosedError
        if not self._busy.acquire(blocking=False):
            raise ConcurrentSessionUseError
        self._user = me
        if self.first_used_on_loop is None:
            self.first_used_on_loop = asyncio._get_running_loop() is not None
        return True

    def _leave(self) -> None:
        self._user = None
        self._busy.release()

    def _execute_internal(self, statement: Any, *args: Any, **options: Any) -> Any:
        entered = self._enter()
        try:
            if not getattr(statement, "is_select", False):
                if self.read_only and getattr(statement, "is_dml", False):
                    raise ReadOnlyError
                self.wrote = True
            elif self._transaction is None and self.route is None:
                return self._begin_with_read(statement, *args, **options)
            if self.route is not None:
                return self._read_by(self.route, statement, *args, **options)
            return super()._execute_internal(statement, *args, **options)
        finally:
            if entered:
                self._leave()

    def _read_by(self, route: ReadRoute, statement: Any, *args: Any, **options: Any) -> Any:
        """Run a statement on the server that the route chose; at the primary when that one was a replica and failed."""
        self._choose_server(route)
        begun = time.monotonic()
        try:
            return super()._execute_internal(statement, *args, **options)
        except Exception as error:
            primary = route.leaves(error, time.monotonic() - begun)
            if primary is None and not (was_lost(error) and only_reads(statement)):
                raise
            transaction = self.get_transaction()
            if transaction is not None:
                if transaction.origin is not SessionTransactionOrigin.AUTOBEGIN or self.in_nested_transaction():
                    raise
                transaction.close(invalidate=True)
            if primary is not None:
                self.bind = primary
        return super()._execute_internal(statement, *args, **options)

    def _choose_server(self, route: ReadRoute) -> None:
        transaction = self.get_transaction()
        if transaction is None or not transaction._connections:  # pyright: ignore[reportPrivateUsage]
            self.bind = route.begin()

    def _begin_with_read(self, statement: Any, *args: Any, **options: Any) -> Any:
        """Run the first statement of a transaction, again on another connection if its own one was lost."""
        for _ in range(READ_AGAIN):
            try:
                return super()._execute_internal(statement, *args, **options)
            except sa_exc.DBAPIError as error:
                transaction = self.get_transaction()
                if transaction is None or not was_lost(error) or not only_reads(statement):
                    raise
                transaction.close(invalidate=True)
        return super()._execute_internal(statement, *args, **options)

    def connection(self, *args: Any, **options: Any) -> Connection:
        entered = self._enter()
        try:
            self.wrote = True
            if self.route is not None:
                self._choose_server(self.route)
            return super().connection(*args, **options)
        finally:
            if entered:
                self._leave()

    def _autobegin_t(self, begin: bool = False) -> SessionTransaction:
        if self._ended:
            raise SessionClosedError
        return super()._autobegin_t(begin)

    def refresh(self, instance: object, *args: Any, **options: Any) -> None:
        if self._ended:
            raise SessionClosedError
        super().refresh(instance, *args, **options)

    def _bulk_save_mappings(self, *args: Any, **options: Any) -> None:
        entered = self._enter()
        try:
            if self.read_only:
                raise ReadOnlyError
            self.wrote = True
            super()._bulk_save_mappings(*args, **options)
        finally:
            if entered:
                self._leave()

    def flush(self, objects: Any = None) -> None:
        if self._is_clean():
            super().flush()
            return
        entered = self._enter()
        try:
            if self.read_only:
                raise ReadOnlyError
            self.wrote = True
            if objects is None:
                super().flush()
            else:
                super().flush(objects)
        finally:
            if entered:
                self._leave()

    def commit(self) -> None:
        entered = self._enter()
        try:
            super().commit()
        finally:
            if entered:
                self._leave()

    def rollback(self) -> None:
        if self.get_transaction() is None:
            self._callbacks.clear()
        if self._ended:
            super().rollback()
            return
        entered = self._enter()
        try:
            super().rollback()
        finally:
            if entered:
                self._leave()

    def close(self) -> None:
        self._ended = True
        super().close()
        self._callbacks.clear()

    def _run_due(self) -> None:
        """Run the callbacks of the transaction that has just been committed; a failure is logged, the rest go on."""
        due, self.due = self.due, []
        for function in due:
            if inspect.iscoroutinefunction(function):
                self.due.append(function)
                continue
            try:
                result = function()
            except Exception:
                logger.exception("A function registered with on_commit() failed; the transaction stays committed.")
            else:
                if inspect.isawaitable(result):
                    self.due.append(functools.partial(_identity, result))


def _identity(awaitable: Any) -> Any:
    return awaitable


@event.listens_for(Session, "after_begin")
def _after_begin(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    if session.writing:
        begin_writing(connection)


@event.listens_for(Session, "before_commit")
def _before_commit(session: Session) -> None:
    if session.read_only and session.has_changes:
        raise ReadOnlyError


@event.listens_for(Session, "after_commit")
def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return
    if session.watermark is not None and session.wrote:
        for connection in session.connections():
            session.watermark.note_write(position_after_commit(connection, session.watermark.positions))
    session.wrote = False
    session.due.extend(function for _, function in session._callbacks)  # pyright: ignore[reportPrivateUsage]
    session._callbacks.clear()  # pyright: ignore[reportPrivateUsage]


@event.listens_for(Session, "after_transaction_end")
def _after_end(session: Session, transaction: SessionTransaction) -> None:
    """The connection is back in the pool: a callback may take it."""
    if transaction.parent is None and session.due:
        session._run_due()  # pyright: ignore[reportPrivateUsage]


@event.listens_for(Session, "after_soft_rollback")
def _after_rollback(session: Session, previous: SessionTransaction) -> None:
    """Forget the callbacks of the transaction that was rolled back and of those nested in it."""
    if previous.origin is SessionTransactionOrigin.SUBTRANSACTION:
        return
    if not previous.nested:
        session.wrote = False
    session._callbacks[:] = [  # pyright: ignore[reportPrivateUsage]
        (owner, function)
        for owner, function in session._callbacks  # pyright: ignore[reportPrivateUsage]
        if previous.nested and not _within(owner, previous)
    ]


def _within(transaction: SessionTransaction | None, other: SessionTransaction) -> bool:
    while transaction is not None:
        if transaction is other:
            return True
        transaction = transaction.parent
    return False


_READ_EVENTS = ("after_begin", "after_transaction_create", "after_transaction_end", "do_orm_execute")
_WRITE_EVENTS = (
    "after_commit",
    "after_flush",
    "after_rollback",
    "after_soft_rollback",
    "before_commit",
    "before_flush",
)
_any_session = Session()
_reading = Listeners([(_any_session, _READ_EVENTS)])
_writing = Listeners([(_any_session, _WRITE_EVENTS)])


@contextmanager
def own_listeners() -> Generator[None]:
    """What is put on every session inside is the package's own, and hides nothing from those who listen.

    The generated routes leave deleted rows out by criteria of their own.
    """
    before = [(listeners, listeners.count()) for listeners in (_reading, _writing)]
    yield
    for listeners, count in before:
        listeners.noted += listeners.count() - count


def are_sessions_observed(*, writes: bool = False) -> bool:
    """Whether anybody but this package listens to what every session does when it reads, or when it ``writes``."""
    return _reading.have_changed or (writes and _writing.have_changed)


class AsyncSession(_AsyncSession):
    """The async face of `Session`, which stays reachable as ``sync_session``."""

    sync_session_class = Session
    sync_session: Session  # pyright: ignore[reportIncompatibleVariableOverride]  # sync_session_class makes it

    async def commit(self) -> None:
        await super().commit()
        await run_async_callbacks(self.sync_session)

    def begin(self) -> AsyncSessionTransaction:
        return AsyncSessionTransaction(self)

    def on_commit(self, function: Callback) -> None:
        """Call ``function`` (plain or async) once the current transaction is really committed."""
        self.sync_session.on_commit(function)


class AsyncSessionTransaction(_AsyncSessionTransaction):
    """What ``async with session.begin():`` holds; async callbacks run when it has committed."""

    session: AsyncSession  # pyright: ignore[reportIncompatibleVariableOverride]  # begin() passes it

    async def commit(self) -> None:
        await super().commit()
        await run_async_callbacks(self.session.sync_session)

    async def __aexit__(self, type_: Any, value: Any, traceback: Any) -> None:
        await super().__aexit__(type_, value, traceback)
        await run_async_callbacks(self.session.sync_session)


async def run_async_callbacks(session: Session) -> None:
    """Run the async callbacks that a commit has left behind; a failure is logged, the rest go on."""
    due, session.due = session.due, []
    for function in due:
        try:
            await function()
        except Exception:
            logger.exception("A function registered with on_commit() failed; the transaction stays committed.")


def wait_until_idle(sessions: Iterable[Session], seconds: float) -> None:
    """Wait for statements of abandoned threads to end, at most ``seconds``."""
    give_up = time.monotonic() + seconds
    for session in sessions:
        while not session.idle and time.monotonic() < give_up:
            time.sleep(0.002)


async def await_until_idle(sessions: Iterable[Session], seconds: float) -> None:
    """The same without blocking the event loop."""
    give_up = time.monotonic() + seconds
    for session in sessions:
        while not session.idle and time.monotonic() < give_up:  # noqa: ASYNC110  # a thread sets no asyncio.Event
            await asyncio.sleep(0.002)
