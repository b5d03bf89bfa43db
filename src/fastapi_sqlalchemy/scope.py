"""The scope: the one place that opens, commits, rolls back and closes sessions, whichever door they came in by."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast

import anyio
import anyio.to_thread
import sqlalchemy.orm
from sqlalchemy import Connection, Engine

from .admission import AsyncGatedQueuePool
from .engines import EngineSource
from .engines.cancellation import cancel_statement, is_cancelled
from .engines.positions import Watermark
from .engines.reads import has_begun
from .engines.replicas import ReadRoute
from .exceptions import AsyncScopeRequiredError, MissingSessionError
from .sessions import (
    AsyncSession,
    Callback,
    Session,
    await_until_idle,
    run_async_callbacks,
    wait_until_idle,
)
from .turns import Turn

__all__ = [
    "IN_USE",
    "Frame",
    "Interruption",
    "Scope",
    "current_scope",
    "current_watermark",
    "in_thread",
    "innermost",
    "levels",
    "note_work",
    "push",
    "restore",
    "uninterrupted",
    "unused_binding",
]

T = TypeVar("T")
O = TypeVar("O")  # noqa: E741  # an owner

logger = logging.getLogger("fastapi_sqlalchemy")

Interruption: TypeAlias = Callable[[], Awaitable[bool]]
"""Ends the statements of some work, in the server, and tells whether there were any."""


class Frame(Protocol):
    """One level of the context: a scope, or a request that opens scopes when they are asked for."""

    def scope_of(self, owner: object) -> Scope | None:
        """The scope of this database, or None."""
        ...

    def watermark_of(self, source: EngineSource) -> Watermark | None:
        """What reads of this database's replicas have to show in this frame, or None if it does not keep account."""
        ...

    def unused_binding(self, owner: object) -> object:
        """The binding that a session opened at this level would have; None for no such level, `IN_USE` if it has one.

        Opens nothing.
        """
        ...

    def note_work(self, interruption: Interruption) -> None:
        """Told of work that belongs to this level and uses none of its sessions."""
        ...


IN_USE: Final = object()
"""Said of a level whose session of the database is there already, or is not to be had."""


_stack: ContextVar[tuple[Frame, ...]] = ContextVar("fastapi_sqlalchemy_scopes", default=())


def push(frame: Frame) -> tuple[Frame, ...]:
    """Make ``frame`` the innermost level of the current context; returns what to give to ``restore()``."""
    before = _stack.get()
    _stack.set((*before, frame))
    return before


def restore(before: tuple[Frame, ...]) -> None:
    """Put the context back to what it was before ``push()``."""
    _stack.set(before)


class Scope:
    """One unit of work on one database: its sessions, and how they end.

    Parameters: ``owner`` is the `SQLAlchemy` object, ``source`` its engines. ``commit_on_exit`` commits a clean end.
    ``writing`` expects writes (SQLite takes its write lock at once), ``read_only`` forbids them. ``awaitable`` says
    that the scope can be closed with await, so that it may hold an async session; ``has_options`` that its sessions
    differ from those of its binding.
    """

    def __init__(
        self,
        owner: object,
        source: EngineSource,
        *,
        session_args: dict[str, Any],
        async_session_args: dict[str, Any],
        commit_on_exit: bool = False,
        writing: bool = False,
        read_only: bool = False,
        awaitable: bool = False,
        has_options: bool = False,
    ) -> None:
        self.owner = owner
        self._has_options = has_options
        self.source = source
        self.commit_on_exit = commit_on_exit
        self.writing = writing
        self.read_only = read_only
        self.awaitable = awaitable
        self.watermark: Watermark | None = None if len(source.replicas) == 0 else current_watermark(source)
        self.binding: object = None
        self.rollback_only = False
        self.closed = False
        self._ended = False
        self.transactions = 0
        self._session_args = session_args
        self._async_session_args = async_session_args
        self._session: Session | None = None
        self._async_session: AsyncSession | None = None
        self._early_callbacks: list[Callback] = []
        self._turn: Turn | None = None

    def push(self) -> None:
        """Make this the innermost scope of the current context."""
        _stack.set((*_stack.get(), self))

    def pop(self) -> None:
        """Take it off the current context again."""
        _stack.set(tuple(frame for frame in _stack.get() if frame is not self))

    def scope_of(self, owner: object) -> Scope | None:
        """This scope, if ``owner`` is its database."""
        return self if self.owner is owner else None

    def watermark_of(self, source: EngineSource) -> Watermark | None:
        """The account that this scope keeps, if the replicas are those of its database."""
        return self.watermark if self.source is source else None

    def unused_binding(self, owner: object) -> object:
        """The binding of this scope, if ``owner`` is its database; `IN_USE` where it is more than that."""
        if self.owner is not owner:
            return None
        unused = not (self.sessions or self.closed or self.binding is None or self._has_options)
        return self.binding if unused else IN_USE

    def note_work(self, interruption: Interruption) -> None:
        """See `Frame`: what ends a request with its client or its deadline asks the request, not a scope."""

    async def interrupt(self) -> bool:
        """End the statements that run on its sessions now; whether there were any."""
        running = [session for session in self.sessions if not session.idle]
        return any([await cancel_statement(each) for session in running for each in session.connections()])

    @property
    def session(self) -> Session:
        """The synchronous session; made on first use, connected by its first statement."""
        if self._session is None:
            self._refuse_when_closed()
            self._session = Session(
                writing=self.writing,
                read_only=self.read_only,
                **self._session_args,
                **self._bound_to(self.source.sync()),
            )
            self._hand_callbacks_to(self._session)
        return self._session

    @property
    def async_session(self) -> AsyncSession:
        """The async session; made on first use, connected by its first statement."""
        if self._async_session is None:
            self._refuse_when_closed()
            if not self.awaitable:
                raise AsyncScopeRequiredError
            engine = self.source.asynchronous()
            options = {**self._bound_to(engine.sync_engine), "bind": engine}
            self._async_session = AsyncSession(
                **options, writing=self.writing, read_only=self.read_only, **self._async_session_args
            )
            self._hand_callbacks_to(self._async_session.sync_session)
        return self._async_session

    def _bound_to(self, engine: Engine) -> dict[str, Any]:
        """How a session works on the primary, and where one that only reads may read."""
        if self.watermark is None or self.source.isolation is not None:
            return {"bind": engine}
        route = ReadRoute(self.source.replicas, self.watermark, engine) if self.read_only else None
        return {"bind": engine, "watermark": self.watermark, "route": route}

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions made so far, as their synchronous selves."""
        made = (self._session, None if self._async_session is None else self._async_session.sync_session)
        return tuple(session for session in made if session is not None)

    @property
    def active_session(self) -> Session:
        """The session that work belongs to which names none: the async one when it is the one in use."""
        if self._async_session is not None and (
            self._session is None or self._async_session.in_transaction() or not self._session.in_transaction()
        ):
            return self._async_session.sync_session
        return self.session

    @property
    def works_async(self) -> bool | None:
        """Whether the work of this scope goes through its async session; None when it may choose."""
        if not self.awaitable:
            return False
        if not self.sessions:
            return None
        return self._async_session is not None and self.active_session is self._async_session.sync_session

    @property
    def leaves_reads_to_replicas(self) -> bool:
        """Whether a read that is asked for here may go elsewhere: nothing is under way that it would have to see."""
        if self.watermark is None or self.source.isolation is not None:
            return False
        return not any(session.in_transaction() or session.has_changes for session in self.sessions)

    def on_commit(self, function: Callback) -> None:
        """Call ``function`` once the transaction is committed of the session in use, or of the first one to be used.

        Raises `AsyncScopeRequiredError` for an async function where nothing can await it.
        """
        if not self.awaitable and inspect.iscoroutinefunction(function):
            raise AsyncScopeRequiredError(
                "An async function given to `db.on_commit()` needs a scope that can await it, and this one was opened "
                "by a plain `with db():`. Write `async with db():`, or register a plain function."
            )
        if self.sessions:
            self.active_session.on_commit(function)
        else:
            self._refuse_when_closed()
            self._early_callbacks.append(function)

    def abort(self) -> None:
        """Mark the scope for rollback: whatever its end, nothing of it is committed."""
        self._refuse_when_closed()
        self.rollback_only = True

    def _hand_callbacks_to(self, session: Session) -> None:
        early, self._early_callbacks = self._early_callbacks, []
        for function in early:
            session.on_commit(function)

    @property
    def in_unit(self) -> bool:
        """Whether somebody further out commits: a ``commit_on_exit`` scope or an open ``db.transaction()``."""
        return self.commit_on_exit or self.transactions > 0

    def has_changes(self) -> bool:
        """Whether a session holds work that is not committed."""
        return any(session.has_changes for session in self.sessions)

    # Ending it: complete() ends the transactions, close() the sessions.

    async def flush_async(self) -> None:
        """Send pending changes to the database, so that a broken constraint shows before anything is committed."""
        if not self._commits(clean=True):
            return
        if self._session is not None and self._session.pending:
            if self._session.first_used_on_loop:
                self._session.flush()
            else:
                await in_thread(self._session.flush)
        if self._async_session is not None and self._async_session.sync_session.pending:
            await self._async_session.flush()

    def complete(self, *, clean: bool) -> None:
        """Commit after a clean end where asked to, roll back otherwise."""
        commit = self._prepare(clean=clean)
        if self._session is not None:
            _end_transaction(self._session, commit=commit)

    async def take_turn(self, endpoint: Callable[..., Any]) -> None:
        """Wait until this ``def`` endpoint may go to work; the end of its transaction lets the next one begin."""
        if self._turn is None:
            self._turn = await self.source.turns().take(endpoint)

    async def complete_async(self, *, clean: bool) -> None:
        """The same for both sessions; runs to its end even when the task is cancelled."""
        try:
            await self._complete_async(clean=clean)
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn.end()
            self._turn = None

    async def _complete_async(self, *, clean: bool) -> None:
        commit = self._prepare(clean=clean)
        self.rollback_only = False  # what comes after the response, a background task, is work of its own
        if any(session.in_transaction() or session.has_callbacks or not session.idle for session in self.sessions):
            if self._async_session is None and self._session is not None and _instant(self._session, self.source):
                # without an await: nothing else runs while the connection is held
                _end_transaction(self._session, commit=commit)
                if not self._session.due:
                    return
            alone = None if self._session is not None else self._async_session
            if alone is not None and _lets_go(alone.sync_session):
                # nothing is awaited in there, so that no cancellation can interrupt it
                await alone.run_sync(_end_its_transaction, commit=commit)
                return
            await uninterrupted(self._complete_both(commit=commit))

    def perform(self, work: Callable[[Session], T], session: Session) -> T:
        """Do ``work`` on a session of this scope and end its transaction, without leaving the thread or greenlet."""
        try:
            result = work(session)
        except BaseException:
            _end_transaction(session, commit=False)
            raise
        _end_transaction(session, commit=self._commits(clean=True))
        return result

    def look(self, work: Callable[[Session], T], session: Session) -> T:
        """Do ``work`` that only reads on a session of this scope: nothing ends that was under way before."""
        is_first = not (session.in_transaction() or session.has_callbacks or self.in_unit)
        try:
            return work(session)
        finally:
            if is_first and not session.has_changes:
                _roll_back(session)

    def end(self) -> None:
        """Refuse further work; what runs at this moment may finish its statement, and is rolled back by the close."""
        self._ended = True
        for session in self.sessions:
            session.end()

    def close(self) -> None:
        """Close the session; whoever still uses it gets `SessionClosedError`."""
        self.closed = True
        if self._session is not None:
            _close(self._session, self._patience)

    async def close_async(self) -> None:
        """Close both sessions; runs to its end even when the task is cancelled."""
        self._end_turn()
        if self.closed:
            return
        self.closed = True
        for session in self.sessions:
            session.end()
        if any(session.in_transaction() or not session.idle for session in self.sessions):
            await uninterrupted(self._close_both())
        else:
            for session in self.sessions:
                session.close()

    def _prepare(self, *, clean: bool) -> bool:
        """Whether the transactions that end now are committed; callbacks without a transaction get their session."""
        commit = self._commits(clean=clean)
        if self._early_callbacks and not self.closed:
            if commit:
                self._hand_callbacks_to(self.session)
            else:
                self._early_callbacks.clear()
        return commit

    def _commits(self, *, clean: bool) -> bool:
        return clean and self.commit_on_exit and not self.rollback_only

    @property
    def _patience(self) -> float:
        return (self.source.config.statement_timeout or 30) + 1

    async def _complete_both(self, *, commit: bool) -> None:
        synchronous, asynchronous = self._session, self._async_session
        if synchronous is not None:
            if _instant(synchronous, self.source):
                _end_transaction(synchronous, commit=commit)
            elif not synchronous.idle or synchronous.in_transaction() or synchronous.has_callbacks:
                await in_thread(functools.partial(self._wait_and_end, synchronous, commit=commit))
            await run_async_callbacks(synchronous)
        if asynchronous is not None:
            await await_until_idle([asynchronous.sync_session], self._patience)
            await asynchronous.run_sync(_end_its_transaction, commit=commit)
            await run_async_callbacks(asynchronous.sync_session)

    def _wait_and_end(self, session: Session, *, commit: bool) -> None:
        wait_until_idle([session], self._patience)
        _end_transaction(session, commit=commit)

    async def _close_both(self) -> None:
        if self._session is not None:
            session = self._session
            if session.idle and (not session.in_transaction() or _instant(session, self.source)):
                _close(session, self._patience)
            else:
                await in_thread(functools.partial(_close, session, self._patience))
        if self._async_session is not None:
            await await_until_idle([self._async_session.sync_session], self._patience)
            await self._async_session.run_sync(lambda session: _close(cast(Session, session), 0))

    def _refuse_when_closed(self) -> None:
        if self.closed or self._ended:
            raise MissingSessionError(
                "The request or `with db():` block that this work came from is over. Work that outlives it needs a "
                "scope of its own: `with db():` or `async with db():`."
            )


def levels() -> tuple[Frame, ...]:
    """The levels of the current context, outermost first."""
    return _stack.get()


def current_scope(owner: object) -> Scope | None:
    """The innermost scope of ``owner`` that is visible here, or None."""
    for frame in reversed(_stack.get()):
        scope = frame.scope_of(owner)
        if scope is not None:
            return scope
    return None


def current_watermark(source: EngineSource) -> Watermark:
    """The account that is kept here of what was written; outside of requests and scopes, that of the process."""
    for frame in reversed(_stack.get()):
        watermark = frame.watermark_of(source)
        if watermark is not None:
            return watermark
    return source.replicas.watermark


def unused_binding(owner: object) -> object:
    """What the innermost level that knows ``owner`` says of its binding (see `Frame`), or None; opens nothing."""
    for frame in reversed(_stack.get()):
        found = frame.unused_binding(owner)
        if found is not None:
            return found
    return None


def note_work(interruption: Interruption) -> None:
    """Tell the levels of the context of work that belongs to them and uses none of their sessions."""
    for frame in _stack.get():
        frame.note_work(interruption)


def innermost(owners: Iterable[O]) -> O | None:
    """The one of these databases whose scope is the innermost that is visible here, or None."""
    candidates = tuple(owners)
    for frame in reversed(_stack.get()):
        for owner in candidates:
            if frame.scope_of(owner) is not None:
                return owner
    return None


def _end_transaction(session: Session, *, commit: bool) -> None:
    """Commit or roll back; a transaction that only read gives its connection back and expires nothing.

    Raises what the commit raised. A rollback that fails is logged: the connection is gone, and so is its transaction.
    """
    if commit:
        if session.in_transaction() or session.has_callbacks:
            try:
                session.commit()
            except BaseException:
                _roll_back(session, after_commit=True)
                raise
        return
    session.forget_callbacks()
    _roll_back(session)


def _end_its_transaction(session: sqlalchemy.orm.Session, *, commit: bool) -> None:
    _end_transaction(cast(Session, session), commit=commit)


def _roll_back(session: Session, *, after_commit: bool = False) -> None:
    """After a COMMIT that failed the database's transaction may be open still, which a mere ``close()`` would leave."""
    transaction = session.get_transaction()
    try:
        if transaction is None:
            return
        if after_commit or session.has_changes or session.in_nested_transaction():
            session.rollback()
        else:
            transaction.close()
    except Exception:
        logger.exception("The transaction could not be rolled back; its connection is given up.")
        if session.in_transaction():
            session.invalidate()


def _close(session: Session, patience: float) -> None:
    session.end()
    wait_until_idle([session], patience)
    try:
        if not session.idle:
            session.invalidate()
        session.close()
    except Exception:
        logger.exception("The session could not be closed cleanly; its connection is given up.")
        session.invalidate()


def _instant(session: Session, source: EngineSource) -> bool:
    """Whether ending the transaction cannot wait: SQLite has only read, the server of PostgreSQL knows of none, or the
    session lives on this event loop.
    """
    if not session.idle:
        return False
    if session.first_used_on_loop:
        return True
    if session.has_changes:
        return False
    return source.dialect_name == "sqlite" or not any(map(has_begun, session.connections()))


def _lets_go(session: Session) -> bool:
    """Whether an async session ends its transaction by giving idle connections back, which its pool keeps."""
    busy = not session.idle or session.has_changes or session.has_callbacks
    return not busy and all(map(_is_idle, session.connections()))


def _is_idle(connection: Connection) -> bool:
    pool: Any = connection.engine.pool
    if has_begun(connection) or not isinstance(pool, AsyncGatedQueuePool):
        return False
    return pool.keeps_returned and not is_cancelled(connection.connection)


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function that ends a session in a thread of its own limit: it must never wait behind those it frees."""
    return await anyio.to_thread.run_sync(function, limiter=anyio.CapacityLimiter(1))


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end; a cancellation that arrives meanwhile is delivered afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                if task.cancelled():
                    raise
                cancelled = error
            except BaseException:
                break
    if cancelled is not None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            cancelled.__context__ = failure
        raise cancelled
    return task.result()
