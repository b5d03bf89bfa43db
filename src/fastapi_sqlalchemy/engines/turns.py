"""SQLite's writers take turns in the process before they meet the lock of the file, for which a thread sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

__all__ = ["is_turn_taken", "writers_turn"]

_locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = weakref.WeakKeyDictionary()


def is_turn_taken(database: str) -> bool:
    """Whether a writer of this file is at work in this event loop, so that the next one would have to wait."""
    lock = _locks.get(asyncio.get_running_loop(), {}).get(database)
    return lock is not None and lock.locked()


@asynccontextmanager
async def writers_turn(database: str, seconds: float | None) -> AsyncGenerator[None]:
    """Hold the turn of the writers of one database file in this event loop, in the order of arrival.

    ``database`` is the file; after ``seconds`` (None for no bound) the work goes on without the turn, and what holds
    it meets the file's lock and the pool's gate as every other writer does.
    """
    locks = _locks.setdefault(asyncio.get_running_loop(), {})
    lock = locks.setdefault(database, asyncio.Lock())
    held = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            held = await lock.acquire()
    try:
        yield
    finally:
        if held:
            lock.release()
