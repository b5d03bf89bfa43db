"""Ends statements on a replica that no longer answers, so that their sessions can read elsewhere.

A server that freezes keeps its connections open, and what waits for it cannot tell it from one that is busy. A busy
server still greets a new connection: PostgreSQL answers an SSLRequest by one byte (manual, "Message Formats"), MySQL
and MariaDB send their handshake at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, ExceptionContext

__all__ = ["Watchdog", "greets"]

DOUBT_AFTER = 0.2
"""Seconds that a statement may take before its server is asked for a greeting."""

DOUBT_AGAIN = 2.0
"""Seconds after which a statement that goes on raises the same doubt again."""

GREETING = 0.4
"""Seconds that a server has to greet."""

LOOK_EVERY = 0.05
"""Seconds between two looks at the statements that run."""

REST_AFTER = 2.0
"""Seconds without a statement after which the thread that looks ends; the next statement starts another."""

_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}


def greets(url: URL) -> bool:
    """Whether the server of a URL greets a new connection in time; True where that cannot be asked."""
    backend = url.get_backend_name()
    if not url.host or url.host.startswith("/") or backend not in _PORTS:
        return True
    give_up = time.monotonic() + GREETING
    try:
        with socket.create_connection((url.host, url.port or _PORTS[backend]), GREETING) as greeting:
            greeting.settimeout(max(0.01, give_up - time.monotonic()))
            if backend == "postgresql":
                greeting.sendall(_SSL_REQUEST)
            return len(greeting.recv(1)) == 1
    except OSError:
        return False


@dataclass(slots=True)
class _Running:
    driver: Any
    doubt_at: float


class Watchdog:
    """Watches the statements on one replica; ``silent`` is called once the server is found not to greet."""

    def __init__(self, url: URL, silent: Callable[[], None]) -> None:
        self._url = url
        self._silent = silent
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}
        self._process: int | None = None
        self._idle = 0

    def watch(self, engine: Engine) -> None:
        """Watch every statement of an engine from its start to its result."""

        @event.listens_for(engine, "before_cursor_execute")
        def _before(connection: Connection, *_: Any) -> None:
            self._begin(connection.connection.dbapi_connection)

        @event.listens_for(engine, "after_cursor_execute")
        def _after(connection: Connection, *_: Any) -> None:
            self._end(connection.connection.dbapi_connection)

        @event.listens_for(engine, "handle_error")
        def _failed(context: ExceptionContext) -> None:
            if context.connection is not None and not context.connection.invalidated:
                self._end(context.connection.connection.dbapi_connection)

        @event.listens_for(engine, "checkin")
        def _returned(dbapi_connection: Any, _record: Any) -> None:
            self._end(dbapi_connection)

        @event.listens_for(engine, "close")
        def _closed(dbapi_connection: Any, _record: Any) -> None:
            self._end(dbapi_connection)

    def _begin(self, dbapi_connection: Any) -> None:
        driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
        with self._lock:
            self._running[id(dbapi_connection)] = _Running(driver, time.monotonic() + DOUBT_AFTER)
            if self._process == os.getpid():
                return
            self._process = os.getpid()  # the first statement, or the first one after a fork
        looking = threading.Thread(target=_look_on, args=(weakref.ref(self),), name="replica watchdog", daemon=True)
        looking.start()

    def _end(self, dbapi_connection: Any) -> None:
        with self._lock:
            self._running.pop(id(dbapi_connection), None)

    def look(self) -> bool:
        """Look at the statements that run; False when there have been none for a while."""
        if self._has_doubts() and not greets(self._url):
            self._silent()
            self._cut()
        with self._lock:
            self._idle = 0 if self._running else self._idle + 1
            if self._idle * LOOK_EVERY < REST_AFTER:
                return True
            self._process, self._idle = None, 0
            return False

    def _has_doubts(self) -> bool:
        now = time.monotonic()
        found = False
        with self._lock:
            for running in self._running.values():
                if running.doubt_at < now:
                    running.doubt_at = now + DOUBT_AGAIN
                    found = True
        return found

    def _cut(self) -> None:
        """End the connections of the statements that run: their sessions see a connection that was lost."""
        with self._lock:  # no statement ends meanwhile, so that each descriptor is still its own
            for running in self._running.values():
                _shut_down(running.driver)
            self._running.clear()


def _look_on(reference: weakref.ref[Watchdog]) -> None:
    """Look again and again, until nothing runs, or the watchdog is gone with its database."""
    while True:
        watchdog = reference()
        if watchdog is None or not watchdog.look():
            return
        del watchdog
        time.sleep(LOOK_EVERY)


def _shut_down(driver: Any) -> None:
    closed_in_this_moment = contextlib.suppress(Exception)
    with closed_in_this_moment, socket.socket(fileno=os.dup(_descriptor(driver))) as copy:
        copy.shutdown(socket.SHUT_RDWR)


def _descriptor(driver: Any) -> int:
    """The descriptor of a driver's socket: psycopg, PyMySQL, asyncpg."""
    if hasattr(driver, "pgconn"):
        return int(driver.pgconn.socket)
    if getattr(driver, "_sock", None) is not None:
        return int(driver._sock.fileno())
    return int(driver._transport.get_extra_info("socket").fileno())
