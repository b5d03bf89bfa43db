"""``db.transaction()``: a transaction, or a savepoint inside of one, with retries of what the database gave up."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import random
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar, cast

from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import SessionTransaction, SessionTransactionOrigin
from starlette.responses import Response

from .engines.primary import refuses_writes
from .exceptions import TransactionUsageError
from .scope import Scope, current_scope, uninterrupted
from .sessions import AsyncSession, Session, run_async_callbacks

__all__ = ["Transaction", "Unit", "is_conflict", "joined", "pause", "unwatch_retries", "watch_retries"]

F = TypeVar("F", bound=Callable[..., Any])

logger = logging.getLogger("fastapi_sqlalchemy")

_SQLSTATES = frozenset({"40001", "40P01"})
_MYSQL_ERRNOS = frozenset({1047, 1213})
_SQLITE_CODES = frozenset({517})
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0


def is_conflict(error: BaseException) -> bool:
    """Whether the database gave the transaction up in favour of another one, so that it can be run again.

    SQLSTATE 40001 and 40P01 (SQL:2023; PostgreSQL manual, "Error Codes"), MySQL and MariaDB error 1213, which is also
    Galera's certification failure, and 1047, by which a Galera node that is not ready refuses a command; SQLite's
    SQLITE_BUSY_SNAPSHOT. A connection that was lost is none: its COMMIT may have happened.
    """
    if not isinstance(error, sa_exc.DBAPIError) or error.connection_invalidated:
        return False
    driver = error.orig
    if (getattr(driver, "sqlstate", None) or getattr(driver, "pgcode", None)) in _SQLSTATES:
        return True
    if getattr(driver, "sqlite_errorcode", None) in _SQLITE_CODES:
        return True
    arguments: tuple[Any, ...] = getattr(driver, "args", ())
    return bool(arguments) and arguments[0] in _MYSQL_ERRNOS


@dataclass
class Unit:
    """One run of a transaction block on one session."""

    session: Session
    scope: Scope
    savepoint: SessionTransaction | None
    commits: bool

    @property
    def repeatable(self) -> bool:
        """Whether nothing but this block has written in the transaction that is rolled back when it fails."""
        return self.savepoint is None


def _begin(session: Session, scope: Scope, *, retrying: bool) -> Unit:
    session.writing = True
    current = session.get_transaction()
    explicit = current is not None and (
        current.origin is SessionTransactionOrigin.BEGIN or session.in_nested_transaction()
    )
    commits = not scope.in_unit and not explicit
    needs_savepoint = session.has_changes if commits else not (retrying and not session.has_changes)
    unit = Unit(session, scope, session.begin_nested() if needs_savepoint else None, commits)
    scope.transactions += 1
    return unit


def _finish(session: Session, unit: Unit, *, clean: bool) -> None:
    unit.scope.transactions -= 1
    if not clean or unit.scope.rollback_only:
        _undo(session, unit.savepoint)
        return
    savepoint = unit.savepoint
    try:
        if savepoint is not None and savepoint.is_active:
            savepoint.commit()
        if unit.commits:
            session.commit()
        else:
            session.flush()
    except BaseException:
        _undo(session, None if unit.commits else savepoint)
        raise


def _undo(session: Session, savepoint: SessionTransaction | None) -> None:
    """Roll back to the savepoint, or all where there is none or the database has dropped it (MariaDB in a deadlock).

    Never raises, so that what made the block fail is what the caller sees.
    """
    try:
        if savepoint is None:
            session.rollback()
        elif savepoint.is_active or session.get_nested_transaction() is savepoint:
            savepoint.rollback()
    except Exception:
        if savepoint is not None:
            logger.info("The savepoint is gone; the whole transaction is rolled back.", exc_info=True)
            _undo(session, None)
        else:
            logger.exception("The transaction could not be rolled back; its connection is given up.")
            if session.in_transaction():
                session.invalidate()


@contextmanager
def joined(session: Session, scope: Scope, *, retrying: bool = False) -> Generator[Unit]:
    """A transaction, or a savepoint inside of one, on a session of a scope that is open.

    ``retrying`` leaves the savepoint out where the session has written nothing yet, so that the unit is repeatable.
    """
    unit = _begin(session, scope, retrying=retrying)
    try:
        yield unit
    except BaseException:
        _finish(session, unit, clean=False)
        raise
    _finish(session, unit, clean=True)


class Transaction:
    """What ``db.transaction()`` returns: a context manager, an async context manager and a decorator.

    Parameters: ``retries``, how often a decorated function is run again after a serialization failure, a deadlock or a
    write that a server refused since it is no longer the primary, with a growing, jittered pause. Only a block that
    owns all that its session has written can be run again; inside another transaction the error goes to the outer one.
    Raises `TransactionUsageError` when ``retries`` is used with ``with``, whose body cannot be run again.
    """

    def __init__(self, owner: object, open_scope: Callable[..., Scope], *, retries: int = 0) -> None:
        if retries < 0:
            raise TransactionUsageError("retries is a number of repetitions, 0 or more.")
        self._owner = owner
        self._open_scope = open_scope
        self._retries = retries
        self._entered: list[_Run] = []

    def __enter__(self) -> Session:
        self._refuse_retries()
        run = _Run(self._owner, self._open_scope)
        session = run.enter(retrying=False)
        self._entered.append(run)
        return session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._entered.pop().exit(clean=error is None)

    async def __aenter__(self) -> AsyncSession:
        self._refuse_retries()
        run = _Run(self._owner, self._open_scope)
        session = await run.enter_async(retrying=False)
        self._entered.append(run)
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._entered.pop().exit_async(clean=error is None)

    def __call__(self, function: F) -> F:
        """Run every call of ``function``, plain or async, in a transaction of its own."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TransactionUsageError(
                f"{function.__qualname__} is a generator, whose body runs after the call. Use "
                "`with db.transaction():` inside of it."
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                for attempt in range(self._retries + 1):
                    run = _Run(self._owner, self._open_scope)
                    await run.enter_async(retrying=self._retries > 0)
                    try:
                        result = await function(*args, **kwargs)
                    except BaseException as error:
                        await run.exit_async(clean=False)
                        if not self._again(run, error, attempt):
                            raise
                    else:
                        try:
                            await run.exit_async(clean=not _is_failure(result))
                        except Exception as error:
                            if not self._again(run, error, attempt):
                                raise
                        else:
                            return result
                    await asyncio.sleep(pause(attempt))
                raise AssertionError("unreachable")

            return cast(F, run_async)

        @functools.wraps(function)
        def run_sync(*args: Any, **kwargs: Any) -> Any:
            for attempt in range(self._retries + 1):
                run = _Run(self._owner, self._open_scope)
                run.enter(retrying=self._retries > 0)
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:
                    run.exit(clean=False)
                    if not self._again(run, error, attempt):
                        raise
                else:
                    try:
                        run.exit(clean=not _is_failure(result))
                    except Exception as error:
                        if not self._again(run, error, attempt):
                            raise
                    else:
                        return result
                time.sleep(pause(attempt))
            raise AssertionError("unreachable")

        return cast(F, run_sync)

    def _again(self, run: _Run, error: BaseException, attempt: int) -> bool:
        return attempt < self._retries and run.repeatable and (is_conflict(error) or refuses_writes(error))

    def _refuse_retries(self) -> None:
        if self._retries:
            raise TransactionUsageError(
                "The body of a `with` block cannot be run again. Put the work in a function and decorate it: "
                f"`@db.transaction(retries={self._retries})`."
            )


class _Run:
    """One attempt: in the scope that is open, or in one of its own."""

    def __init__(self, owner: object, open_scope: Callable[..., Scope]) -> None:
        self._owner = owner
        self._open_scope = open_scope
        self._own: Scope | None = None
        self._unit: Unit | None = None

    @property
    def repeatable(self) -> bool:
        """Whether nothing but this block has written in the transaction that was rolled back."""
        return self._unit is None or self._unit.repeatable

    def enter(self, *, retrying: bool) -> Session:
        scope = current_scope(self._owner)
        if scope is None or scope.closed:
            scope = self._own = self._open_scope(commit_on_exit=True, writing=True, awaitable=False)
            scope.push()
            return scope.session
        self._unit = _begin(scope.session, scope, retrying=retrying)
        return scope.session

    def exit(self, *, clean: bool) -> None:
        if self._unit is not None:
            _finish(self._unit.session, self._unit, clean=clean)
            return
        scope = self._own
        assert scope is not None
        try:
            scope.complete(clean=clean)
        finally:
            scope.pop()
            scope.close()

    async def enter_async(self, *, retrying: bool) -> AsyncSession:
        scope = current_scope(self._owner)
        if scope is None or scope.closed:
            scope = self._own = self._open_scope(commit_on_exit=True, writing=True, awaitable=True)
            scope.push()
            return scope.async_session
        session = scope.async_session
        self._unit = await session.run_sync(
            lambda sync_session: _begin(cast(Session, sync_session), scope, retrying=retrying)
        )
        return session

    async def exit_async(self, *, clean: bool) -> None:
        unit = self._unit
        if unit is not None:
            session = unit.scope.async_session
            await uninterrupted(
                session.run_sync(lambda sync_session: _finish(cast(Session, sync_session), unit, clean=clean))
            )
            await run_async_callbacks(unit.session)
            return
        scope = self._own
        assert scope is not None
        try:
            await scope.complete_async(clean=clean)
        finally:
            scope.pop()
            await scope.close_async()


def _is_failure(result: object) -> bool:
    """A returned response of 400 or more rolls back, as it does everywhere."""
    return isinstance(result, Response) and result.status_code >= 400


def pause(attempt: int) -> float:
    """Return how many seconds to wait before an attempt is repeated: growing, and not the same for two that met."""
    for watcher in _retry_watchers:
        watcher()
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**attempt) * random.uniform(0.5, 1.5)  # noqa: S311  # no secret


_retry_watchers: list[Callable[[], None]] = []


def watch_retries(watcher: Callable[[], None]) -> None:
    """Call ``watcher`` before each attempt that repeats another."""
    _retry_watchers.append(watcher)


def unwatch_retries(watcher: Callable[[], None]) -> None:
    """Call ``watcher`` no more."""
    _retry_watchers.remove(watcher)
