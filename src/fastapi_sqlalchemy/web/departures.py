"""Notices that the client of a safe request is gone, and ends the statement that runs for nobody.

Only of GET and HEAD, which change nothing (RFC 9110, section 9.2.1): another method's work may be wanted though its
answer is not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.types import Message, Receive

from ..scope import Interruption

__all__ = ["WATCH_AFTER", "Departure", "is_watched", "watched"]

WATCH_AFTER = 0.1
"""Seconds after which a request that uses the database is watched; most are over by then."""

_MOST_MESSAGES = 16
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class Departure:
    """Watches one request's client, and keeps for the application what it received meanwhile.

    Parameters: ``receive`` is the server's; ``interrupt`` ends the statements of the request and tells whether there
    were any; it is called until the request is over.
    """

    def __init__(self, receive: Receive, interrupt: Interruption) -> None:
        self.gone = False
        self._receive = receive
        self._interrupt = interrupt
        self._loop = asyncio.get_running_loop()
        self._messages: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._receiving = 0
        self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._interrupting: asyncio.Task[None] | None = None

    def expect(self) -> None:
        """Start to watch in a moment, if the request is not over by then; may be called from any thread."""
        if asyncio._get_running_loop() is self._loop:
            self._set_timer()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set_timer)

    def over(self) -> None:
        """The request has its answer: nobody is watched any more."""
        self._over = True
        for pending in (self._timer, self._watcher, self._interrupting):
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

    def _set_timer(self) -> None:
        if not self._over and self._timer is None:
            self._timer = self._loop.call_later(WATCH_AFTER, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._over or self._watcher is not None:
            return
        if self._receiving:  # the application waits for the same message, and passes it by here
            self._set_timer()
        else:
            self._watcher = self._loop.create_task(self._watch())

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
            self._interrupting = self._loop.create_task(self._interrupt_all())

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
    departure = Departure(before, interrupt)
    connection._receive = departure.receive  # pyright: ignore[reportPrivateUsage]  # Starlette has no public way
    departure.expect()
    try:
        yield
    finally:
        departure.over()
        connection._receive = before  # pyright: ignore[reportPrivateUsage]
