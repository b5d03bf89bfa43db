"""Lets the n-th call that an engine makes to its driver fail, or all of them take their time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NoReturn, Self

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

from ..exceptions import ConfigurationError

__all__ = ["CALLS", "DriverFaults"]

CALLS = ("connect", "execute", "commit", "rollback", "close")
"""The kinds of calls, as they are named in ``DriverFaults.calls``."""

_METHODS = {
    "do_execute": "execute",
    "do_execute_no_params": "execute",
    "do_executemany": "execute",
    "do_commit": "commit",
    "do_rollback": "rollback",
    "do_close": "close",
    "do_terminate": "close",
}
_MESSAGE = "the call was made to fail by DriverFaults"


class DriverFaults:
    """Counts the calls to the drivers of some engines while it is entered, and lets one of them fail.

    An application that is right in every case survives this::

        with DriverFaults(db.engine) as clean:
            client.post("/users", json=user)
        for n in range(1, len(clean.calls) + 1):
            with DriverFaults(db.engine, fail_at=n):
                assert client.post("/users", json=user).status_code in (201, 503)

    Parameters: ``engines``, synchronous or asynchronous ones; the calls of all are counted together. ``fail_at`` is the
    number of the call that fails, from 1; None only counts. ``only`` are the kinds of `CALLS` that count.
    ``lose_connection`` makes the failure one that the connection does not survive. The call that fails is not made,
    unless ``lose_answer`` is true: then it is made and its answer is cut off with the connection, as when the network
    fails between a COMMIT and its acknowledgement. ``delay`` is how many seconds each call that counts takes longer
    (except the closing of a connection).
    Raises `ConfigurationError` for a number below 1, a negative delay or an unknown kind of call.
    """

    def __init__(
        self,
        *engines: Engine | AsyncEngine,
        fail_at: int | None = None,
        only: Iterable[str] = CALLS,
        lose_connection: bool = False,
        lose_answer: bool = False,
        delay: float = 0,
    ) -> None:
        self.calls: list[str] = []
        self.fail_at = fail_at
        self.only = frozenset(only)
        self.lose_connection = lose_connection or lose_answer
        self.lose_answer = lose_answer
        self.delay = delay
        self._engines = [engine.sync_engine if isinstance(engine, AsyncEngine) else engine for engine in engines]
        self._undo: list[Callable[[], object]] = []
        self._raised: BaseException | None = None
        if fail_at is not None and fail_at < 1:
            raise ConfigurationError(f"fail_at is the number of a call, 1 or more; not {fail_at}.")
        if delay < 0:
            raise ConfigurationError(f"delay is a number of seconds, 0 or more; not {delay}.")
        if unknown := self.only - set(CALLS):
            raise ConfigurationError(f"only= knows {', '.join(CALLS)}; not {', '.join(sorted(unknown))}.")

    @property
    def failed(self) -> str | None:
        """The kind of the call that failed; None if there were not that many calls."""
        return None if self._raised is None or self.fail_at is None else self.calls[self.fail_at - 1]

    def __enter__(self) -> Self:
        for engine in self._engines:
            self._watch(engine)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        while self._undo:
            self._undo.pop()()

    def _watch(self, engine: Engine) -> None:
        dialect: Any = engine.dialect

        def connecting(*_arguments: Any) -> None:
            self._wait("connect", dialect)
            if self._count("connect"):
                self._fail(dialect)

        def failing(context: ExceptionContext) -> None:
            if self.lose_connection and context.original_exception is self._raised:
                context.is_disconnect = True

        event.listen(engine, "do_connect", connecting, insert=True)
        self._undo.append(lambda: event.remove(engine, "do_connect", connecting))
        event.listen(engine, "handle_error", failing)
        self._undo.append(lambda: event.remove(engine, "handle_error", failing))
        for method, kind in _METHODS.items():
            self._replace(dialect, method, kind)

    def _replace(self, dialect: Any, method: str, kind: str) -> None:
        call, own = getattr(dialect, method), method in vars(dialect)

        def counted(*arguments: Any, **options: Any) -> Any:
            fails = self._count(kind)
            self._wait(kind, dialect)
            if fails and not self.lose_answer:
                self._fail(dialect)
            result = call(*arguments, **options)
            if fails:
                self._fail(dialect)
            return result

        def restore() -> None:
            if own:
                setattr(dialect, method, call)
            else:
                delattr(dialect, method)

        setattr(dialect, method, counted)
        self._undo.append(restore)

    def _count(self, kind: str) -> bool:
        """Count a call; whether it is the one that fails."""
        if kind not in self.only:
            return False
        self.calls.append(kind)
        return len(self.calls) == self.fail_at

    def _wait(self, kind: str, dialect: Any) -> None:
        if self.delay == 0 or kind not in self.only or kind == "close":
            return
        if dialect.is_async:
            await_only(asyncio.sleep(self.delay))
        else:
            time.sleep(self.delay)

    def _fail(self, dialect: Any) -> NoReturn:
        self._raised = _error(dialect)
        raise self._raised


def _error(dialect: Any) -> BaseException:
    """What the driver raises when it has lost the server, or when SQLite cannot read its file."""
    error_class = dialect.loaded_dbapi.OperationalError
    if dialect.name in ("mysql", "mariadb"):
        return error_class(2013, _MESSAGE)  # type: ignore[no-any-return]  # CR_SERVER_LOST
    error: Any = error_class(_MESSAGE)
    if dialect.name == "sqlite":
        error.sqlite_errorcode, error.sqlite_errorname = 10, "SQLITE_IOERR"
    elif dialect.driver == "psycopg":
        error = _psycopg_error()
    else:
        error.sqlstate = "08006"
    return error  # type: ignore[no-any-return]


def _psycopg_error() -> BaseException:
    from psycopg.errors import ConnectionFailure

    return ConnectionFailure(_MESSAGE)
