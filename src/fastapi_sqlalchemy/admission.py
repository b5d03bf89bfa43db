"""The gate: never more session holders than connections, served in the order of arrival.

The gate is the pool's own front door, so that every way to a connection passes it. While a worker thread waits at the
gate it gives its place in AnyIO's thread pool back: those who hold a connection, and routes that need none, always
find a thread, and the pool cannot deadlock with the thread pool.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio.from_thread
import anyio.to_thread
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, Pool, PoolProxiedConnection, QueuePool
from sqlalchemy.util import await_only, memoized_property
from sqlalchemy.util.queue import AsyncAdaptedQueue, Queue

from .exceptions import PoolQueueFullError, PoolTimeoutError

__all__ = [
    "LEND_AFTER",
    "MAX_WAITING",
    "PATIENCE",
    "AsyncGatedQueuePool",
    "Gate",
    "GatedQueuePool",
    "Ticket",
    "gated_pool_class",
]

MAX_WAITING = 4096
"""How many may wait for one pool before the next one is refused with a 503 at once."""

PATIENCE = 0.005
"""Seconds after which a holder that is still at work no longer keeps others back."""

LEND_AFTER = 0.02
"""Seconds that a worker thread waits before it gives its place in the thread pool to another."""


class Ticket:
    """The right to hold one connection; ``since`` is when it was given."""

    __slots__ = ("since",)

    def __init__(self, since: float) -> None:
        self.since = since


class _Place:
    """One waiter in the queue: ``wake`` lets it look again, ``ticket`` is what it waits for."""

    __slots__ = ("polls", "signalled", "ticket", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.ticket: Ticket | None = None
        self.signalled = False
        self.polls = False

    def signal(self) -> None:
        if not self.signalled:
            self.signalled = True
            self.wake()


class Gate:
    """A first-come, first-served gate with room for ``capacity`` holders.

    Where more than ``preferred`` holders at a time cost more than they gain, as with SQLite, whose driver drops the
    interpreter's lock at every row, the others wait while ``preferred`` holders are at work; a holder that has not
    finished after ``PATIENCE`` no longer keeps them back, and only ``capacity`` does.

    Parameters: ``capacity`` and ``preferred`` connections; ``timeout`` seconds to wait, None for no bound;
    ``max_waiting`` waiters. Raises `PoolTimeoutError` after the timeout, `PoolQueueFullError` when the queue is full.
    """

    def __init__(
        self, capacity: int, timeout: float | None, *, preferred: int | None = None, max_waiting: int = MAX_WAITING
    ) -> None:
        self.capacity = capacity
        self.timeout = timeout
        self.preferred = capacity if preferred is None else min(preferred, capacity)
        self.max_waiting = max_waiting
        self._held: set[Ticket] = set()
        self._waiting: deque[_Place] = deque()
        self._limiter: anyio.CapacityLimiter | None = None
        # Reentrant: a connection that the garbage collector returns may interrupt the holder of this lock.
        self._lock = threading.RLock()

    @property
    def held(self) -> int:
        """How many hold a place now."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """How many wait for a place now."""
        return len(self._waiting)

    def acquire_nowait(self) -> Ticket | None:
        """Take a place if one is free and nobody waits for it."""
        with self._lock:
            return None if self._waiting else self._admit()

    def acquire(self) -> Ticket:
        """Take a place, blocking this thread for at most ``timeout`` seconds."""
        ticket = self.acquire_nowait()
        if ticket is not None:
            return ticket
        if _on_event_loop():
            return self._acquire_on_event_loop()
        woken = threading.Lock()
        woken.acquire()
        place = self._enqueue(woken.release)
        give_up = None if self.timeout is None else time.monotonic() + self.timeout
        lend_at = time.monotonic() + LEND_AFTER
        end_loan: Callable[[], None] | None = None
        try:
            while place.ticket is None:
                woken.acquire(timeout=self._next_look(place, give_up, lends=end_loan is None))
                if self._looked(place) or (give_up is not None and time.monotonic() >= give_up):
                    break
                if end_loan is None and time.monotonic() >= lend_at and self._threads_are_short():
                    end_loan = self._lend_worker_token()
        except BaseException:
            self._give_up(place)
            raise
        finally:
            if end_loan is not None:
                end_loan()
        return self._redeem(place)

    async def acquire_async(self) -> Ticket:
        """Take a place, suspending this task for at most ``timeout`` seconds."""
        ticket = self.acquire_nowait()
        if ticket is not None:
            return ticket
        loop = asyncio.get_running_loop()
        waiter = _AsyncWaiter(loop)
        place = self._enqueue(waiter.wake)
        give_up = None if self.timeout is None else time.monotonic() + self.timeout
        try:
            while place.ticket is None:
                await waiter.wait(self._next_look(place, give_up, lends=False))
                if self._looked(place) or (give_up is not None and time.monotonic() >= give_up):
                    break
        except BaseException:
            self._give_up(place)
            raise
        return self._redeem(place)

    def release(self, ticket: Ticket) -> None:
        """Give a place back; the one who has waited longest gets it."""
        with self._lock:
            self._held.discard(ticket)
            self._call_waiting()

    def _admit(self) -> Ticket | None:
        held = self._held
        now = time.monotonic()
        if len(held) >= self.preferred and (
            len(held) >= self.capacity or sum(now - ticket.since < PATIENCE for ticket in held) >= self.preferred
        ):
            return None
        ticket = Ticket(now)
        held.add(ticket)
        return ticket

    def _call_waiting(self) -> None:
        """Admit from the head of the queue; let the new head watch for a holder that takes long."""
        while self._waiting:
            ticket = self._admit()
            head = self._waiting[0]
            if ticket is None:
                if self.preferred < self.capacity and not head.polls:
                    head.polls = True
                    self._signal(head)
                return
            self._waiting.popleft()
            head.ticket = ticket
            if not self._signal(head):
                self._held.discard(ticket)

    def _signal(self, place: _Place) -> bool:
        try:
            place.signal()
        except RuntimeError:
            return False  # the waiter's event loop is closed
        return True

    def _enqueue(self, wake: Callable[[], object]) -> _Place:
        place = _Place(wake)
        with self._lock:
            if len(self._waiting) >= self.max_waiting:
                raise PoolQueueFullError(
                    f"{self.max_waiting} requests are waiting for one of {self.capacity} database connections already. "
                    "Try again later."
                )
            place.polls = not self._waiting and self.preferred < self.capacity
            self._waiting.append(place)
            self._call_waiting()
        return place

    def _next_look(self, place: _Place, give_up: float | None, *, lends: bool) -> float:
        """Seconds until the waiter looks again by itself; -1 for never."""
        seconds = -1.0 if give_up is None else max(0.0, give_up - time.monotonic())
        if not place.polls and not lends:
            return seconds
        look = PATIENCE if place.polls else LEND_AFTER
        return look if seconds < 0 else min(look, seconds)

    def _looked(self, place: _Place) -> bool:
        with self._lock:
            place.signalled = False
            if place.ticket is None and place.polls:
                self._call_waiting()
            return place.ticket is not None

    def _redeem(self, place: _Place) -> Ticket:
        with self._lock:
            if place.ticket is not None:
                return place.ticket
            self._waiting.remove(place)
            self._call_waiting()
        raise PoolTimeoutError(
            f"None of the {self.capacity} database connections became free within {self.timeout:g} seconds. "
            "Raise pool_size or max_overflow (engine_args), shorten the transactions, or raise pool_timeout."
        )

    def _give_up(self, place: _Place) -> None:
        with self._lock:
            if place.ticket is not None:
                self.release(place.ticket)
            else:
                self._waiting.remove(place)
                self._call_waiting()

    def _acquire_on_event_loop(self) -> Ticket:
        with self._lock:
            if len(self._held) < self.capacity:
                ticket = Ticket(time.monotonic())
                self._held.add(ticket)
                return ticket
        raise PoolTimeoutError(
            f"All {self.capacity} database connections are taken, and a synchronous session cannot wait for one on "
            "the event loop without stopping it. Use a plain `def` endpoint, or `await` with `db.async_session`."
        )

    def _threads_are_short(self) -> bool:
        return self._limiter is None or self._limiter.available_tokens <= 0

    def _lend_worker_token(self) -> Callable[[], None] | None:
        """Let another worker thread run while this one waits; returns the function that ends the loan."""
        try:
            loop, self._limiter = anyio.from_thread.run_sync(_lend)
        except RuntimeError:
            return None  # not one of AnyIO's worker threads: it takes nobody's place
        return partial(_end_loan, loop, self._limiter)


class _AsyncWaiter:
    """Suspends a task until it is woken or some seconds have passed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        if asyncio._get_running_loop() is self._loop:
            self._set()
        else:
            self._loop.call_soon_threadsafe(self._set)

    async def wait(self, seconds: float) -> None:
        timer = None if seconds < 0 else self._loop.call_later(seconds, self._set)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()
            self._future = self._loop.create_future()

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _lend() -> tuple[asyncio.AbstractEventLoop, anyio.CapacityLimiter]:
    limiter = anyio.to_thread.current_default_thread_limiter()
    limiter.total_tokens += 1
    return asyncio.get_running_loop(), limiter


def _end_loan(loop: asyncio.AbstractEventLoop, limiter: anyio.CapacityLimiter) -> None:
    try:
        loop.call_soon_threadsafe(_reduce, limiter)
    except RuntimeError:
        return  # the loop is closed, and its limiter gone with it


def _reduce(limiter: anyio.CapacityLimiter) -> None:
    limiter.total_tokens -= 1


def _gate_for(pool: QueuePool, preferred: int | None) -> Gate | None:
    size, overflow = pool.size(), pool._max_overflow  # pyright: ignore[reportPrivateUsage]  # no public reader
    if size == 0 or overflow < 0:
        return None
    return Gate(size + overflow, pool.timeout(), preferred=preferred)


class _Idle(Queue[ConnectionPoolEntry]):
    """The idle connections of a pool; ``maxsize`` is the pool's size, and no bound."""

    def _full(self) -> bool:
        return False


class _AsyncIdle(AsyncAdaptedQueue[ConnectionPoolEntry]):
    """The same for an async engine."""

    @memoized_property
    def _queue(self) -> asyncio.Queue[ConnectionPoolEntry]:
        return asyncio.LifoQueue() if self.use_lifo else asyncio.Queue()

    def peek(self) -> ConnectionPoolEntry | None:
        """The one that is handed out next, if there is one."""
        idle: Sequence[ConnectionPoolEntry] = vars(self._queue)["_queue"]  # a deque or a list, as subclasses know it
        return idle[-1 if self.use_lifo else 0] if idle else None


class _Gated(QueuePool):
    """What both gated pools share: who holds which ticket, and which connection that comes back is kept.

    QueuePool closes what comes back past the pool's size at once. Behind a gate that is a connection which the next in
    line would have to open again, so it is closed when nobody waits for one. The queue of the idle has no bound of its
    own for that: `keeps_returned` is the bound.
    """

    gate: Gate | None
    preferred: int | None = None
    checkout_timers: tuple[Callable[[float], None], ...] = ()
    """Told of the seconds that each connection took to be had, the wait at the gate included."""
    _discarded = False
    _tickets: dict[int, Ticket]

    def open_gate(self, preferred: int | None = None) -> None:
        """Put a gate of the pool's own capacity before it."""
        self.preferred = preferred
        self.gate = _gate_for(self, preferred)
        self._tickets = {}

    @property
    def keeps_returned(self) -> bool:
        """Whether a connection that comes back now is kept; past the pool's size only for those who wait for one."""
        if self._discarded:
            return False
        size, idle, gate = self.size(), self.checkedin(), self.gate
        if idle < size or size == 0:
            return True
        return gate is not None and idle < gate.waiting + gate.held - self.checkedout()

    def recreate(self) -> QueuePool:
        fresh = super().recreate()
        assert isinstance(fresh, _Gated)
        fresh.open_gate(self.preferred)
        fresh.checkout_timers = self.checkout_timers
        return fresh

    def dispose(self) -> None:
        """Close the idle connections; those in use are closed when they come back: nobody asks this pool again."""
        self._discarded = True
        super().dispose()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        ticket = self._tickets.pop(id(record), None)
        try:
            if self.keeps_returned:
                super()._do_return_conn(record)
            elif self._discarded:
                record.close()
            else:
                self._close_surplus(record)
        finally:
            if ticket is not None and self.gate is not None:
                self.gate.release(ticket)

    def _close_surplus(self, record: ConnectionPoolEntry) -> None:
        try:
            record.close()
        finally:
            self._dec_overflow()

    def _take(self, gate: Gate, ticket: Ticket) -> ConnectionPoolEntry:
        try:
            record = super()._do_get()
        except BaseException:
            gate.release(ticket)
            raise
        self._tickets[id(record)] = ticket
        return record


class GatedQueuePool(_Gated):
    """A QueuePool behind a gate; see `Gate`."""

    _queue_class = _Idle

    def __init__(self, creator: Any, **options: Any) -> None:
        super().__init__(creator, **options)
        self.open_gate()

    def has_idle_connection(self) -> bool:
        """Whether a connection can be had at this moment without waiting for one or opening one."""
        gate = self.gate
        return self.checkedin() > 0 and (gate is None or gate.held < gate.capacity)

    def _do_get(self) -> ConnectionPoolEntry:
        timers = self.checkout_timers
        return _timed(self._get, timers) if timers else self._get()

    def _get(self) -> ConnectionPoolEntry:
        gate = self.gate
        return super()._do_get() if gate is None else self._take(gate, gate.acquire())


class AsyncGatedQueuePool(_Gated, AsyncAdaptedQueuePool):
    """An AsyncAdaptedQueuePool behind a gate; see `Gate`."""

    _queue_class = _AsyncIdle
    _admitted: Ticket | None = None
    _asked: float | None = None

    def __init__(self, creator: Any, **options: Any) -> None:
        super().__init__(creator, **options)
        self.open_gate()

    async def admit(self) -> ConnectionPoolEntry | None:
        """Wait at the gate for the one who calls `connect` next, before anything is awaited; return what it is given.

        None where a connection has to be opened for it.
        """
        asked = time.perf_counter()
        if self.gate is not None:
            self._admitted = await self.gate.acquire_async()
        self._asked = asked
        assert isinstance(self._pool, _AsyncIdle)
        return self._pool.peek()

    def connect(self) -> PoolProxiedConnection:
        """As the pool's; see `_raise_as_of_dialect`."""
        try:
            return super().connect()
        except Exception as error:
            _raise_as_of_dialect(self._dialect, error)
            raise

    def _do_get(self) -> ConnectionPoolEntry:
        asked, self._asked = self._asked, None
        timers = self.checkout_timers
        return _timed(self._get, timers, asked) if timers else self._get()

    def _get(self) -> ConnectionPoolEntry:
        gate = self.gate
        if gate is None:
            return super()._do_get()
        ticket, self._admitted = self._admitted or gate.acquire_nowait(), None
        if ticket is None:
            ticket = await_only(gate.acquire_async())
        return self._take(gate, ticket)


def _raise_as_of_dialect(dialect: Any, error: Exception) -> None:
    """Raise an error of asyncpg as SQLAlchemy's dialect would.

    What a connection runs when it is new, SQLAlchemy's own codecs for JSON among it, talks to the driver itself.
    """
    translations: Mapping[type, Any] = getattr(dialect.loaded_dbapi, "_asyncpg_error_translate", {})
    for base in type(error).__mro__:
        if base in translations:
            raise translations[base](error.args[0] if error.args else "", error) from error


def _timed(
    get: Callable[[], ConnectionPoolEntry], timers: tuple[Callable[[float], None], ...], asked: float | None = None
) -> ConnectionPoolEntry:
    """Get a connection and tell the timers how long it took, from the moment that it was ``asked`` for."""
    started = time.perf_counter() if asked is None else asked
    try:
        return get()
    finally:
        seconds = time.perf_counter() - started
        for timer in timers:
            timer(seconds)


def gated_pool_class(pool_class: type[Pool]) -> type[Pool]:
    """The gated twin of a pool class that can wait; any other class is returned unchanged."""
    if pool_class is QueuePool:
        return GatedQueuePool
    if pool_class is AsyncAdaptedQueuePool:
        return AsyncGatedQueuePool
    return pool_class
