"""Waits for SQLite's write lock: in the order of arrival within the process, as likely as any other process to be next.

SQLite's own waiting (https://www.sqlite.org/c3ref/busy_timeout.html) looks after a millisecond, then more and more
seldom, at last ten times a second. Where several processes write all the time, those who look often find the lock free
and pass by who has waited long, until the timeout. Here one writer of each process looks, and all equally often; when
a writer of its own process ends, it looks at once.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from time import monotonic

__all__ = ["PAUSE", "Line", "line_of"]

PAUSE = 0.003
"""Seconds between two looks at a lock that somebody else holds."""


class Line:
    """The writers of this process that wait for the lock of one file; the first of them looks at it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._is_led = False
        self._others: deque[threading.Lock] = deque()
        self._freed = threading.Event()

    def freed(self) -> None:
        """A transaction of this process has ended, which may have held the lock: whoever looks at it looks at once."""
        self._freed.set()

    def begin(self, driver: sqlite3.Connection, patience: int) -> None:
        """Run BEGIN IMMEDIATE, and wait for the lock for ``patience`` milliseconds, the connection's busy timeout.

        Raises what the driver raises, once the timeout is over "database is locked".
        """
        give_up = monotonic() + patience / 1000
        driver.execute("PRAGMA busy_timeout = 0")
        try:
            leads = self._step_up(give_up)
            try:
                self._take(driver, give_up)
            finally:
                if leads:
                    self._step_down()
        finally:
            driver.execute(f"PRAGMA busy_timeout = {patience}")

    def _step_up(self, give_up: float) -> bool:
        """Wait to be the first; False when the time is over."""
        with self._mutex:
            if not self._is_led:
                self._is_led = True
                return True
            place = threading.Lock()
            place.acquire()
            self._others.append(place)
        if place.acquire(timeout=max(0.0, give_up - monotonic())):
            return True
        with self._mutex:
            if place not in self._others:
                return True
            self._others.remove(place)
            return False

    def _step_down(self) -> None:
        with self._mutex:
            if self._others:
                self._others.popleft().release()
            else:
                self._is_led = False

    def _take(self, driver: sqlite3.Connection, give_up: float) -> None:
        while True:
            self._freed.clear()
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > give_up:
                    raise
            self._freed.wait(PAUSE)


_lines: dict[str, Line] = {}


def line_of(database: str) -> Line:
    """The line of a file, the same for all engines of this process."""
    return _lines.setdefault(os.path.abspath(database), Line())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lines.clear)
