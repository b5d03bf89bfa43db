"""Notices that the client of a safe request is gone, and ends the statement that runs for nobody.

Only of GET and HEAD, which change nothing (RFC 9110, section 9.2.1): another method's work may be wanted though its
answer is not.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.types import Message, Receive

from ..scope import Interruption

__all__ = ["WATCH_AFTER", "Departure", "Lookout", "is_watched", "lookout", "watched"]

WATCH_AFTER = 0.1
"""Seconds after which a request that uses the database is watched; most are over by then."""

_LOOK_EVERY = WATCH_AFTER / 2
_IDLE_LOOKS = 20
_MOST_MESSAGES = 16
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class Lookout:
    """Begins to watch the clients of one event loop's requests that are not over in a moment.

    One timer serves all of them, for one of each request would cost more than most requests use it for; from a worker
    thread it would wake the event loop, too. It goes on for a while when there is nothing to look for.
    """

    def __init__(self) -> None:
        self.loop_reference = weakref.ref(asyncio.get_running_loop())
        self._expected: deque[tuple[float, weakref.ref[Departure]]] = deque()
        self._goes_on = False
        self._timer: asyncio.TimerHandle | None = None
        self._idle_looks = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its event loop, for those who run on it."""
        loop = self.loop_reference()
        assert loop is not None
        return loop

    def expect(self, departure: Departure) -> None:
        """Watch this one from `WATCH_AFTER` on, unless its request is over by then; may be called from any thread."""
        self._expected.append((time.monotonic(), weakref.ref(departure)))
        if self._goes_on:
            return
        self._goes_on = True
        loop = self.loop_reference()
        if loop is not None and asyncio._get_running_loop() is loop:
            self._set_timer()
        elif loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._set_timer)

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(_LOOK_EVERY, self._look, context=Context())  # of no request

    def _look(self) -> None:
        self._timer = None
        due = time.monotonic() - WATCH_AFTER
        self._idle_looks = 0 if self._expected else self._idle_looks + 1
        while self._expected and self._expected[0][0] <= due:
            departure = self._expected.popleft()[1]()
            if departure is not None:
                departure.begin()
        if self._idle_looks < _IDLE_LOOKS:
            self._set_timer()
            return
        self._goes_on = False
        if self._expected:  # from a thread that saw it going on
            self._goes_on = True
            self._set_timer()


def lookout() -> Lookout:
    """The lookout of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _lookouts.get(loop)
    if found is None:
        found = _lookouts[loop] = Lookout()
    return found


_lookouts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Lookout] = weakref.WeakKeyDictionary()


class Departure:
    """Watches one request's client, and keeps for the application what it received meanwhile.

    Parameters: ``receive`` is the server's; ``interrupt`` ends the statements of the request and tells whether there
    were any; it is called until the request is over.
    """

    __slots__ = (
        "__weakref__",
        "_arrived",
        "_interrupt",
        "_interrupting",
        "_lookout",
        "_messages",
        "_over",
        "_receive",
        "_receiving",
        "_watcher",
        "gone",
    )

    _arrived: asyncio.Event
    _messages: deque[Message]

    def __init__(self, receive: Receive, interrupt: Interruption, lookout: Lookout) -> None:
        self.gone = False
        self._receive = receive
        self._interrupt = interrupt
        self._lookout = lookout
        self._receiving = 0
        self._over = False
        self._watcher: asyncio.Task[None] | None = None
        self._interrupting: asyncio.Task[None] | None = None

    def expect(self) -> None:
        """Start to watch in a moment, if the request is not over by then; may be called from any thread."""
        self._lookout.expect(self)

    def over(self) -> None:
        """The request has its answer: nobody is watched any more."""
        self._over = True
        for pending in (self._watcher, self._interrupting):
            if pending is not None:
                pending.cancel()

    async def receive(self) -> Message:
        """The application's ``receive``."""
        if self._watcher is None:
            self._receiving += 1
            try:
                message = await self._receive()
            finally:
                self._receiving -= 1
            self._note(message)
            return message
        while not self._messages and not self._watcher.done():
            self._arrived.clear()
            await self._arrived.wait()
        if not self._messages:
            return await self._receive()
        return self._messages[0] if self._messages[0]["type"] == "http.disconnect" else self._messages.popleft()

    def begin(self) -> None:
        """Start to watch now, if the request is not over."""
        if self._over or self._watcher is not None:
            return
        if self._receiving:  # the application waits for the same message, and passes it by here
            self.expect()
            return
        self._messages, self._arrived = deque(), asyncio.Event()
        self._watcher = self._lookout.loop.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            while not self.gone and len(self._messages) < _MOST_MESSAGES:
                message = await self._receive()
                self._messages.append(message)
                self._arrived.set()
                self._note(message)
        finally:
            self._arrived.set()

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect" and not (self._over or self.gone):
            self.gone = True
            self._interrupting = self._lookout.loop.create_task(self._interrupt_all())

    async def _interrupt_all(self) -> None:
        pause = _FIRST_PAUSE
        while not self._over:
            if await self._interrupt():
                pause = min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)


def is_watched(asgi_scope: Any) -> bool:
    """Whether a request's client may be given up."""
    return asgi_scope["type"] == "http" and asgi_scope["method"] in ("GET", "HEAD")


@contextmanager
def watched(connection: HTTPConnection, interrupt: Interruption) -> Generator[None]:
    """Watch the client of a request that is inside an application already, where it may be given up.

    The endpoint has the same request object: what it receives, a body too, comes by way of what watches.
    """
    if not isinstance(connection, Request) or not is_watched(connection.scope):
        yield
        return
    before = connection.receive
    departure = Departure(before, interrupt, lookout())
    connection._receive = departure.receive  # pyright: ignore[reportPrivateUsage]  # Starlette has no public way
    departure.expect()
    try:
        yield
    finally:
        departure.over()
        connection._receive = before  # pyright: ignore[reportPrivateUsage]
