"""SQLite's write lock as one task sees it: its inner transactions never wait for one that is its own.

SQLite has one writer. A transaction within another one of the same task would wait for a lock that is given back only
after it, until the busy timeout ends both.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextvars import ContextVar
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.util.concurrency import in_greenlet

from ..exceptions import TransactionUsageError

__all__ = ["make_way", "note_lock"]


class _Transaction(Protocol):
    """What is known of the transaction on a connection."""

    file: object
    locked: bool
    wrote: bool

    def begin_again(self) -> None: ...


class _Holder:
    """A transaction that took the lock: on which connection, in which thread and task."""

    __slots__ = ("connection", "place", "transaction")

    def __init__(self, connection: Connection, transaction: _Transaction) -> None:
        self.connection = weakref.ref(connection)
        self.transaction = transaction
        self.place = _here()

    def holds(self) -> bool:
        connection = self.connection()
        return connection is not None and self.transaction.locked and connection.in_transaction()


_holders: ContextVar[tuple[_Holder, ...]] = ContextVar("fastapi_sqlalchemy_write_locks", default=())


def _here() -> tuple[int, int | None]:
    loop = asyncio._get_running_loop()
    task = None if loop is None else asyncio.current_task(loop)
    return threading.get_ident(), None if task is None else id(task)


def make_way(transaction: _Transaction, *, writes: bool) -> bool:
    """Have the lock free of what this task itself holds; False where it is not, and ``transaction`` may only read.

    A transaction that has only read gives way, and begins anew with its next statement.
    Raises `TransactionUsageError` where one has written, and this one ``writes`` too.
    """
    holders = _holders.get()
    if not holders:
        return True
    here = _here()
    for holder in holders:
        other = holder.transaction
        if other is transaction or other.file != transaction.file or holder.place != here or not holder.holds():
            continue
        if not _gives_way(holder):
            if not writes:
                return False
            raise TransactionUsageError(
                "This write would wait for itself: a transaction around it, in the same task, holds SQLite's write "
                "lock, which has one holder at a time. Commit the outer session first, or do the work on it, in a "
                "savepoint of its own: `with db.transaction():` in place of `with db():`."
            )
    return True


def note_lock(connection: Connection, transaction: _Transaction) -> None:
    """Note that the transaction of ``connection`` takes the lock with what it runs next."""
    transaction.locked = True
    kept = (holder for holder in _holders.get() if holder.transaction is not transaction and holder.holds())
    _holders.set((*kept, _Holder(connection, transaction)))


def _gives_way(holder: _Holder) -> bool:
    connection = holder.connection()
    if connection is None or holder.transaction.wrote:
        return False
    if connection.dialect.is_async and not in_greenlet():
        return False
    cursor = connection.connection.cursor()
    try:
        cursor.execute("COMMIT")
    finally:
        cursor.close()
    holder.transaction.begin_again()
    return True
