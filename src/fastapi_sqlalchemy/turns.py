"""Turns of an event loop: few ``def`` endpoints work on a database at a time, the others wait before they get a thread.

Threads that meet at the gate of a pool (`admission`) cost a switch each, and those that run beside each other fight for
the interpreter's lock. A request that waits here costs next to nothing. A turn is only a matter of pace: one that takes
long ends by itself, and an endpoint whose turns take long has none for a while.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["PATIENCE", "Turn", "Turns"]

PATIENCE = 0.01
"""Seconds after which a turn that has not ended no longer keeps others back."""

WITHOUT = 64
"""Requests of an endpoint whose turn took longer than that, which go ahead without one."""


class Turn:
    """The right to be at work now; ``end()`` passes it on, as often as it is called."""

    __slots__ = ("_turns", "endpoint", "since", "timer")

    def __init__(self, turns: Turns, endpoint: _Endpoint) -> None:
        self._turns = turns
        self.endpoint = endpoint
        self.since = time.monotonic()
        self.timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Let the next one begin."""
        self._turns.end(self)


class Turns:
    """The turns of one event loop on one database: ``at_once`` of them, first come, first served."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._loop = asyncio.get_running_loop()
        self._running: set[Turn] = set()
        self._waiting: deque[_Place] = deque()
        self._endpoints: weakref.WeakKeyDictionary[Callable[..., Any], _Endpoint] = weakref.WeakKeyDictionary()

    async def take(self, function: Callable[..., Any]) -> Turn | None:
        """Wait for a turn of this endpoint; None where it needs none, or where turns of it take long."""
        endpoint = self._endpoint(function)
        if endpoint is None or not endpoint.wants_turn():
            return None
        if len(self._running) < self._at_once and not self._waiting:
            return self._begin(endpoint)
        place = _Place(endpoint, self._loop.create_future())
        self._waiting.append(place)
        self._watch()
        try:
            return await place.future
        except BaseException:
            if place in self._waiting:
                self._waiting.remove(place)
            elif place.future.done() and not place.future.cancelled():
                self._let_go(place.future.result())
            raise

    def end(self, turn: Turn) -> None:
        """End a turn; see `Turn.end`."""
        if turn in self._running:
            if time.monotonic() - turn.since > PATIENCE:
                turn.endpoint.without = WITHOUT
            self._let_go(turn)

    def _begin(self, endpoint: _Endpoint) -> Turn:
        turn = Turn(self, endpoint)
        self._running.add(turn)
        return turn

    def _let_go(self, turn: Turn | None) -> None:
        if turn is None:
            return
        self._running.discard(turn)
        if turn.timer is not None:
            turn.timer.cancel()
        while self._waiting and len(self._running) < self._at_once:
            place = self._waiting.popleft()
            if not place.future.done():
                place.future.set_result(self._begin(place.endpoint))
        if self._waiting:
            self._watch()

    def _watch(self) -> None:
        """Somebody waits: let each turn under way end by itself in time."""
        for turn in self._running:
            if turn.timer is None:
                left = PATIENCE - (time.monotonic() - turn.since)
                turn.timer = self._loop.call_later(max(0.0, left), self._expire, turn)

    def _expire(self, turn: Turn) -> None:
        """A turn takes long: those who wait for one of the same endpoint would wait as long each, and go ahead."""
        turn.endpoint.without = WITHOUT
        waiting, self._waiting = self._waiting, deque()
        for place in waiting:
            if place.endpoint is not turn.endpoint:
                self._waiting.append(place)
            elif not place.future.done():
                place.future.set_result(None)
        self._let_go(turn)

    def _endpoint(self, function: Callable[..., Any]) -> _Endpoint | None:
        try:
            found = self._endpoints.get(function)
            if found is None:
                found = self._endpoints[function] = _Endpoint(function)
        except TypeError:
            return None  # neither hashed nor weakly referred to
        return found


class _Endpoint:
    """What is known of an endpoint: whether it runs in a thread, and how many requests go without a turn."""

    __slots__ = ("in_thread", "without")

    def __init__(self, function: Callable[..., Any]) -> None:
        call = getattr(function, "__call__", None)  # noqa: B004  # that of an object of the user's
        self.in_thread = not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call))
        self.without = 0

    def wants_turn(self) -> bool:
        if self.without > 0:
            self.without -= 1
            return False
        return self.in_thread


class _Place:
    """One that waits."""

    __slots__ = ("endpoint", "future")

    def __init__(self, endpoint: _Endpoint, future: asyncio.Future[Turn | None]) -> None:
        self.endpoint = endpoint
        self.future = future
