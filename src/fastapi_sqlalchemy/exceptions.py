"""Every error that the package raises, in one tree.

FastAPISQLAlchemyError
├── ConfigurationError (ValueError)
│   ├── MissingDatabaseError (TypeError)      neither a URL nor an engine was given
│   ├── UnknownOptionError (TypeError)        a keyword that no option has
│   ├── MissingDriverError (ImportError)      no installed driver speaks to that database
│   ├── MissingExtraError (ImportError)       an optional part of the package is not installed
│   ├── MigrationsPendingError                the database is not at head, and was asked to be
│   ├── AmbiguousDatabaseError                the module-level ``db`` stands for several databases
│   └── ReservedNameError (TypeError)         a column has the name of a model helper
├── MissingSessionError                       no scope is open here
│   └── SessionNotInitialisedError            the database has no URL yet
├── SessionClosedError                        the scope that owned the session has ended
├── ConcurrentSessionUseError                 two threads or tasks use one session at once
├── AsyncScopeRequiredError                   async work in a scope that was opened by a plain ``with``
├── TransactionUsageError                     a transaction cannot do what was asked
├── ReadOnlyError                             a write inside ``db.read_only()``
├── UnknownAttributeError (TypeError)         a model has no attribute of that name
├── BadRowError                               a row of a file does not fit its table
├── ExplainError                              there is no plan of a statement
├── NotConfirmedError                         ``drop_all()`` without ``confirmed=True``
└── DatabaseUnavailableError                  a 503: try again later
    ├── RequestTimeoutError                   the request had no answer within ``request_timeout``
    └── PoolTimeoutError                      no connection became free in time
        └── PoolQueueFullError                too many are waiting for a connection already
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc as sa_exc

__all__ = [
    "AmbiguousDatabaseError",
    "AsyncScopeRequiredError",
    "BadRowError",
    "ConcurrentSessionUseError",
    "ConfigurationError",
    "DatabaseUnavailableError",
    "ExplainError",
    "FastAPISQLAlchemyError",
    "MigrationsPendingError",
    "MissingDatabaseError",
    "MissingDriverError",
    "MissingExtraError",
    "MissingSessionError",
    "NotConfirmedError",
    "PoolQueueFullError",
    "PoolTimeoutError",
    "ReadOnlyError",
    "RequestTimeoutError",
    "ReservedNameError",
    "SQLAlchemyAsyncioMissing",
    "SQLAlchemyType",
    "SessionClosedError",
    "SessionNotAsync",
    "SessionNotInitialisedError",
    "TransactionUsageError",
    "UnknownAttributeError",
    "UnknownOptionError",
]


class FastAPISQLAlchemyError(Exception):
    """Root of every error of this package; ``page()`` names the page of the documentation that explains it."""

    default = "The database layer was used in a way it does not support."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.default)

    @classmethod
    def page(cls) -> str:
        """Return the page of the documentation that explains this error, for a subclass of yours that of its base."""
        name = next(base.__name__ for base in cls.__mro__ if base.__module__ == __name__)
        return f"reference/errors/{name}.md"


class ConfigurationError(FastAPISQLAlchemyError, ValueError):
    """A setting, a URL or a keyword is wrong; the message says which and what to give instead."""


class MissingDatabaseError(ConfigurationError, TypeError):
    """Neither a URL, an engine nor a database was given."""

    default = "You need to pass a db_url or a custom_engine parameter."


class UnknownOptionError(ConfigurationError, TypeError):
    """A keyword argument that no option has."""


class MissingDriverError(ConfigurationError, ImportError):
    """No installed driver speaks to the database of the URL; the message names the extra to install."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional part of the package is not installed; the message names the extra to install."""


class MigrationsPendingError(ConfigurationError):
    """The database is not at head, and ``migrations="check"`` asks that it is."""

    default = "The database has migrations to come. Run: fastapi-sqlalchemy db upgrade."


class AmbiguousDatabaseError(ConfigurationError):
    """The module-level ``db`` was given several databases and none of them is open here."""

    default = (
        "The module-level `db` serves several applications with different databases, and no request of theirs is open "
        "here. Make one `SQLAlchemy(url)` object per database and use `with that_db():`."
    )


class ReservedNameError(ConfigurationError, TypeError):
    """A mapped attribute has the name of a model helper, which it would hide."""


class MissingSessionError(FastAPISQLAlchemyError):
    """No scope is open in this context, so there is no session."""

    default = (
        "No database session is open here. Inside a request, add the middleware with "
        "`app.add_middleware(DBSessionMiddleware, db=db)` or take the session from `Depends(db.get_session)`. "
        "Elsewhere (a script, a scheduled task, a thread started by hand) open a scope: "
        "`with db(): db.session...` or `async with db(): db.async_session...`."
    )


class SessionNotInitialisedError(MissingSessionError):
    """The database has no URL or engine yet."""

    default = (
        "The database is not initialised. Give it a URL with `db = SQLAlchemy(url)` or `db.init(url)`, "
        "or add `app.add_middleware(DBSessionMiddleware, db_url=...)` before the first use."
    )


class SessionClosedError(FastAPISQLAlchemyError, sa_exc.InvalidRequestError):
    """The session was used after the scope that owned it had ended."""

    default = (
        "This session is closed: the request or `with db():` block that owned it is over, or `close()` was called. "
        "Work that runs later (a background task, a streamed body, a task that outlives its request) needs a scope of "
        "its own: `with db():` or `async with db():`, or DBSessionMiddleware, which keeps one open for it."
    )

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message)


class ConcurrentSessionUseError(FastAPISQLAlchemyError, sa_exc.InvalidRequestError):
    """Two threads or two tasks used one session at the same moment."""

    default = (
        "This session is in use by another thread or task at this moment; a session serves one at a time. "
        "Await the calls one after the other, or give each of the concurrent calls a scope of its own: "
        "`async with db():` (or `with db():`) inside the gathered function."
    )


class AsyncScopeRequiredError(FastAPISQLAlchemyError):
    """An async session was asked for in a scope that only a plain ``with`` can close."""

    default = (
        "`db.async_session` needs a scope that can be closed with await, and this one was opened by a plain "
        "`with db():`. Write `async with db():`."
    )


class TransactionUsageError(FastAPISQLAlchemyError):
    """A transaction was used in a way that cannot give what was asked for."""


class ReadOnlyError(FastAPISQLAlchemyError, sa_exc.InvalidRequestError):
    """Something was written inside ``db.read_only()``."""

    default = "This scope is read-only. Do the write outside of `db.read_only()`."


class UnknownAttributeError(FastAPISQLAlchemyError, TypeError):
    """A model has no attribute of the given name."""


class BadRowError(FastAPISQLAlchemyError, ValueError):
    """A row of a file does not fit its table; nothing of its batch is kept.

    ``line`` is where the row starts in the file, counted from 1; ``last_line`` is the same, or the end of the batch
    where the database only tells that of a whole one; ``column`` is the column's name where it is known; ``reason`` is
    what is wrong; ``kept`` is how many rows before it are in the table.
    """

    def __init__(
        self, line: int, reason: str, *, column: str | None = None, last_line: int | None = None, kept: int = 0
    ) -> None:
        self.line = line
        self.last_line = line if last_line is None else last_line
        self.column = column
        self.reason = reason
        self.kept = kept
        where = f"line {line}" if self.last_line == line else f"lines {line} to {self.last_line}"
        super().__init__(f"{where}: {'' if column is None else f'column {column!r}: '}{reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _bad_row, (self.line, self.reason, self.column, self.last_line, self.kept)


def _bad_row(line: int, reason: str, column: str | None, last_line: int, kept: int) -> BadRowError:
    return BadRowError(line, reason, column=column, last_line=last_line, kept=kept)


class ExplainError(FastAPISQLAlchemyError):
    """There is no plan of a statement, or none that may be asked for."""


class NotConfirmedError(FastAPISQLAlchemyError):
    """All tables would have been dropped without an explicit confirmation."""

    default = "drop_all() deletes every table and row. Say so on purpose: `db.drop_all(confirmed=True)`."


class DatabaseUnavailableError(FastAPISQLAlchemyError, sa_exc.SQLAlchemyError):
    """The database cannot serve now; the same request may succeed later (a 503 with Retry-After)."""

    retry_after: int = 1

    default = "The database cannot be reached at the moment. Try again later."


class RequestTimeoutError(DatabaseUnavailableError):
    """The request had no answer within ``request_timeout`` seconds; what it had not committed is rolled back."""

    default = "The request took longer than `request_timeout` allows. Try again later."


class PoolTimeoutError(DatabaseUnavailableError, sa_exc.TimeoutError):
    """No connection became free within ``pool_timeout`` seconds."""

    default = (
        "No database connection became free in time. Raise `pool_size` (engine_args), shorten the transactions, or "
        "raise `pool_timeout`."
    )


class PoolQueueFullError(PoolTimeoutError):
    """The bounded queue for a connection is full, so the request is refused at once."""

    default = "Too many requests are waiting for a database connection. Try again later."


SessionNotAsync = AsyncScopeRequiredError
SQLAlchemyType = MissingDatabaseError
SQLAlchemyAsyncioMissing = MissingDriverError
