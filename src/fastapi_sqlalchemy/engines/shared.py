"""One transaction for many: its parts write in turns, each by a savepoint of its own.

Behind ``db.isolated()``. A part begins with its first write, by a savepoint, and has the turn until its commit releases
the savepoint or its rollback goes back to it. Meanwhile nobody else reads or writes, except what runs inside of the
same unit of work: a scope within the scope that writes. What only reads holds nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from ..exceptions import TransactionUsageError
from .deferred import deferred_constraints
from .sqlite import share_transaction

__all__ = ["Part", "SharedTransaction"]

PATIENCE = 5.0
"""Seconds to wait for a turn where the database has no ``pool_timeout``."""

_PAUSE = 0.002
_OUTER = "fsa_isolation"
_READ = "fsa_read"
_numbers = itertools.count(1)
_inside: ContextVar[tuple[int, ...]] = ContextVar("fastapi_sqlalchemy_turns", default=())
"""The turns that were taken in this context, or in one that it was copied from."""


class Part:
    """What one connection does in the shared transaction; ``savepoint`` is set while it has the turn."""

    __slots__ = ("autocommit", "frames", "number", "savepoint", "thread", "undone")

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.savepoint: str | None = None
        self.frames: tuple[object, ...] = ()
        self.thread = 0
        self.undone = False
        self.autocommit = False

    def is_around(self, frames: tuple[object, ...]) -> bool:
        """Whether what runs here, at these levels of the context, is inside of the work that this part does."""
        return self.number in _inside.get() or bool(self.frames and frames[: len(self.frames)] == self.frames)


class SharedTransaction:
    """The transaction that a connection is in, shared by many parts.

    ``patience`` is the time to wait for a turn, in seconds. ``levels`` returns the levels of the current context,
    outermost first, by which work inside of other work is told. Waiting in vain raises `TransactionUsageError`.
    """

    def __init__(
        self, connection: Connection, patience: float | None, levels: Callable[[], tuple[object, ...]]
    ) -> None:
        self._connection = connection
        self.driver: Any = connection.connection.dbapi_connection
        self._patience = PATIENCE if patience is None else patience
        self._levels = levels
        self._free = threading.Condition()
        self._writers: list[Part] = []
        self._over = False
        # PostgreSQL ends a transaction at the first statement that fails; the others undo the statement alone
        self._guards_reads = connection.dialect.name not in ("sqlite", "mysql", "mariadb")
        self._deferred = deferred_constraints(connection)
        self._say(f"SAVEPOINT {_OUTER}")

    def end(self) -> None:
        """Undo everything. Raises `TransactionUsageError` where the transaction has ended, and its work may stay."""
        with self._free:
            self._over = True
            share_transaction(self._connection.info, None)
            try:
                self._say(f"ROLLBACK TO SAVEPOINT {_OUTER}")
            except self._connection.dialect.loaded_dbapi.Error as error:
                raise TransactionUsageError(
                    "Something inside of db.isolated() has ended its transaction, and what was written may have "
                    "stayed: CREATE or DROP on MariaDB and MySQL, a commit on the driver's own connection, or a "
                    "connection that was lost. Make tables before, and use sessions or the connections of db.engine."
                ) from error

    def admit(self, info: dict[str, Any]) -> Part:
        """A part for a new connection; ``info`` is that of its place in the pool."""
        share_transaction(self._connection.info, info)
        return Part()

    def run(self, part: Part, execute: Callable[[], None], *, is_write: bool) -> None:
        """Call ``execute`` for a part when it is its turn."""
        give_up = time.monotonic() + self._patience
        while True:
            with self._free:
                if self._may_go(part, give_up):
                    self._execute(part, execute, is_write=is_write)
                    return
            await_only(asyncio.sleep(_PAUSE))

    def commit(self, part: Part) -> None:
        """Keep what a part has written, as far as the whole is concerned."""
        with self._free:
            self._refuse_undone(part)
            if part.savepoint is None:
                return
            self._refuse_late()
            try:
                if self._writers == [part]:
                    self._deferred.check(self.driver)
                if self._writers[-1] is part:
                    self._say(f"RELEASE SAVEPOINT {part.savepoint}")
            except BaseException:
                self._undo(part)
                raise
            self._leave(part)

    def roll_back(self, part: Part) -> None:
        """Undo what a part has written, and what was written inside of it."""
        with self._free:
            part.undone = False
            if part.savepoint is not None and not self._over:
                self._undo(part)

    def _may_go(self, part: Part, give_up: float) -> bool:
        """Wait for the turn; False where a coroutine has to wait outside, so that its event loop goes on."""
        while True:
            self._refuse_undone(part)
            self._refuse_late()
            if part.savepoint is not None or not self._writers:
                return True
            holder = self._writers[-1]
            if holder.is_around(self._levels()):
                return True
            left = give_up - time.monotonic()
            awaits = in_greenlet()
            if not awaits and asyncio._get_running_loop() is not None and holder.thread == threading.get_ident():
                left = 0  # the event loop would have to go on for the other to end
            if left <= 0:
                raise TransactionUsageError(
                    "Inside of db.isolated() all sessions share one connection and write in turns. Another one has "
                    f"written and neither committed nor ended, for up to {self._patience:g} seconds: let it commit or "
                    "close before this one starts, or try this with real connections (@pytest.mark.not_isolated)."
                )
            if awaits:
                return False
            self._free.wait(left)

    def _execute(self, part: Part, execute: Callable[[], None], *, is_write: bool) -> None:
        if is_write and part.savepoint is None:
            self._enter(part)
        guarded = self._guards_reads and part.savepoint is None
        if guarded:
            self._say(f"SAVEPOINT {_READ}")
        try:
            execute()
        except BaseException:
            if guarded:
                self._say(f"ROLLBACK TO SAVEPOINT {_READ}")
            if part.autocommit and part.savepoint is not None:
                self._undo(part)
            raise
        if guarded:
            self._say(f"RELEASE SAVEPOINT {_READ}")
        if part.autocommit:
            self.commit(part)

    def _enter(self, part: Part) -> None:
        name = f"fsa_{part.number}"
        self._say(f"SAVEPOINT {name}")
        part.savepoint, part.frames, part.thread = name, self._levels(), threading.get_ident()
        self._writers.append(part)
        _inside.set((*_inside.get(), part.number))

    def _leave(self, part: Part) -> None:
        part.savepoint = None
        self._writers.remove(part)
        _inside.set(tuple(number for number in _inside.get() if number != part.number))
        self._free.notify_all()

    def _undo(self, part: Part) -> None:
        name, at = part.savepoint, self._writers.index(part)
        for inner in self._writers[at + 1 :]:
            inner.undone = True
            self._leave(inner)
        self._leave(part)
        self._say(f"ROLLBACK TO SAVEPOINT {name}")
        self._say(f"RELEASE SAVEPOINT {name}")

    def _refuse_undone(self, part: Part) -> None:
        if part.undone:
            raise TransactionUsageError(
                "Inside of db.isolated() a session within another one writes within its transaction, and the outer "
                "one was rolled back: what this one wrote is gone. End the inner session before the outer one."
            )

    def _refuse_late(self) -> None:
        if self._over:
            raise TransactionUsageError(
                "db.isolated() is over, and so is this session. Open another one, by `with db():`."
            )

    def _say(self, statement: str) -> None:
        cursor = self.driver.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()
