"""The primary: which of the known servers takes writes, found again after a failover."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL, Dialect, ExceptionContext

from ..config import DatabaseConfig, masked
from ..exceptions import DatabaseUnavailableError
from .probe import ask
from .reads import end_transaction_mode

__all__ = ["Primary", "has_several_hosts", "refuses_writes"]

logger = logging.getLogger("fastapi_sqlalchemy")

CHECK_EVERY = 0.5
"""Seconds for which a server that takes writes is believed to go on doing so; the check is one short query."""

CHECK_RARELY = 10.0
"""The same where no server has taken writes for a minute: it may be meant so."""

_GENERATION = "fastapi_sqlalchemy.primary"
_QUESTIONS = {
    "postgresql": "SHOW transaction_read_only",
    "mysql": "SELECT @@global.read_only",
    "mariadb": "SELECT @@global.read_only",
}


def refuses_writes(error: BaseException) -> bool:
    """Whether a server refused a write since it takes none, as one that is no longer the primary does.

    SQLSTATE 25006 (PostgreSQL manual, "Error Codes"); MySQL and MariaDB errors 1290, for ``--read-only``, and 1836.
    """
    driver = error.orig if isinstance(error, sa_exc.DBAPIError) else error
    if getattr(driver, "sqlstate", None) == "25006":
        return True
    arguments: tuple[Any, ...] = getattr(driver, "args", ())
    number = arguments[0] if arguments else None
    return number == 1836 or (number == 1290 and "read" in str(arguments[1:]) and "only" in str(arguments[1:]))


def has_several_hosts(url: URL) -> bool:
    """Whether a URL of PostgreSQL names several servers (``?host=a:5432&host=b:5432`` or ``?host=a,b``)."""
    hosts = url.query.get("host", "")
    return url.get_backend_name() == "postgresql" and ("," in hosts if isinstance(hosts, str) else len(hosts) > 1)


class Primary:
    """Opens the connections of one database on the server that takes writes, and notices when it no longer does.

    Known are the servers of the URL and of the replicas. A connection is opened on the one that took writes last; when
    it cannot be reached or takes none, the others are asked. Twice a second one connection is asked as it leaves the
    pool; after a failover all of them, those of the other engines too, are replaced before they are used again.
    """

    def __init__(self, config: DatabaseConfig) -> None:
        assert config.url is not None
        self._config = config
        self._urls: Sequence[URL] = (config.url, *(replica.parsed for replica in config.replicas))
        self._question = None if config.reads_only else _QUESTIONS.get(config.url.get_backend_name())
        self._lock = threading.Lock()
        self._current = 0
        self._generation = 0
        self._checked_at = 0.0
        self._writable_at = 0.0

    @property
    def url(self) -> URL:
        """The URL of the server that took writes last."""
        return self._urls[self._current]

    def guard(self, engine: Engine) -> None:
        """Keep the connections of an engine on the primary; called before anything else listens to its connects."""
        if self._question is None:
            return

        @event.listens_for(engine, "handle_error")
        def _failed(context: ExceptionContext) -> None:
            if refuses_writes(context.original_exception) and not _chose_to_read(context):
                context.is_disconnect = True
                self._lost()

        if len(self._urls) > 1 or has_several_hosts(self._urls[0]):
            self._follow(engine)

    def _follow(self, engine: Engine) -> None:
        @event.listens_for(engine, "do_connect")
        def _open(dialect: Dialect, record: Any, cargs: list[Any], cparams: dict[str, Any]) -> Any:
            def connect(args: list[Any], options: dict[str, Any]) -> Any:
                others: Any = dialect.dispatch.do_connect
                for listener in others:
                    connection = None if listener is _open else listener(dialect, record, args, options)
                    if connection is not None:
                        return connection
                return dialect.connect(*args, **options)

            return self._connect(connect, dialect, record, cargs, cparams)

        @event.listens_for(engine, "checkout")
        def _check(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
            if record.info.get(_GENERATION) != self._generation:
                raise sa_exc.DisconnectionError("The primary has changed since the connection was opened.")
            if self._is_due() and not self._takes_writes_still(dbapi_connection, record):
                self._lost()
                raise sa_exc.InvalidatePoolError("The server takes no writes any more.")

    def _connect(self, connect: Any, dialect: Dialect, record: Any, cargs: list[Any], cparams: dict[str, Any]) -> Any:
        """Connect to the first of the known servers that takes writes; where none does, to one that can be read."""
        failure: BaseException | None = None
        readable: tuple[int, Any] | None = None
        generation = self._generation
        for index in sorted(range(len(self._urls)), key=lambda index: index != self._current):
            connection: Any = None
            try:
                connection = connect(*self._arguments(index, dialect, cargs, cparams))
                writable = self._takes_writes(connection)
            except (dialect.loaded_dbapi.Error, OSError, TimeoutError) as error:
                failure = failure or error
                _close(connection)
                continue
            except BaseException:
                _close(connection)
                raise
            if writable:
                if readable is not None:
                    _close(readable[1])
                self._found(index, record)
                return connection
            if readable is None:
                readable = index, connection
            else:
                _close(connection)
        if readable is None:
            assert failure is not None
            if isinstance(failure, dialect.loaded_dbapi.InternalError):  # asyncpg: no host matches target_session_attrs
                raise DatabaseUnavailableError("None of the known servers takes writes at the moment.") from failure
            raise failure
        if record is not None:
            record.info[_GENERATION] = generation
        return readable[1]

    def _arguments(
        self, index: int, dialect: Dialect, cargs: list[Any], cparams: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The driver's arguments for one of the servers: its own from the URL, and those that hold for all."""
        if index == 0:
            return list(cargs), dict(cparams)
        _, own = dialect.create_connect_args(self._urls[0])
        args, options = dialect.create_connect_args(self._urls[index])
        return list(args), {**{name: value for name, value in cparams.items() if name not in own}, **options}

    def _takes_writes(self, dbapi_connection: Any) -> bool:
        assert self._question is not None
        (answer, *_) = ask(dbapi_connection, self._question, self._config.connect_timeout or 5)
        dbapi_connection.rollback()
        return str(answer).lower() in ("off", "0")

    def _takes_writes_still(self, dbapi_connection: Any, record: Any) -> bool:
        end_transaction_mode(record.info, dbapi_connection)
        try:
            writable = self._takes_writes(dbapi_connection)
        except Exception as error:
            raise sa_exc.DisconnectionError("The pooled connection does not answer.") from error
        if writable:
            self._writable_at = time.monotonic()
        return writable

    def _is_due(self) -> bool:
        now = time.monotonic()
        every = CHECK_EVERY if now - self._writable_at < 60 else CHECK_RARELY
        with self._lock:
            if now - self._checked_at < every:
                return False
            self._checked_at = now
            return True

    def _found(self, index: int, record: Any) -> None:
        with self._lock:
            self._checked_at = self._writable_at = time.monotonic()
            if index != self._current:
                self._current = index
                self._generation += 1
                logger.warning("The primary is now %s.", masked(self._urls[index]))
            if record is not None:
                record.info[_GENERATION] = self._generation

    def _lost(self) -> None:
        """Let every connection be opened anew before it is used again."""
        with self._lock:
            self._generation += 1
        logger.warning("%s takes no writes any more; looking for the primary.", masked(self.url))


def _close(connection: Any) -> None:
    if connection is not None:
        with contextlib.suppress(Exception):  # it is given up in any case
            connection.close()


def _chose_to_read(context: ExceptionContext) -> bool:
    """Whether the transaction was made read-only by whoever runs it."""
    connection = context.connection
    return connection is not None and bool(connection.get_execution_options().get("postgresql_readonly"))
