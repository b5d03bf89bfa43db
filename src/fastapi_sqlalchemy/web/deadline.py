"""Holds a request to its deadline, ``request_timeout``: what it runs is ended, and it is answered in any case."""

from __future__ import annotations

import asyncio
from typing import Protocol

from anyio import CancelScope

__all__ = ["GRACE", "Deadline"]

GRACE = 0.2
"""Seconds after the deadline, first for the application to end when its statement was, then when it was cancelled."""


class _Held(Protocol):
    """The request."""

    def expire(self, seconds: float, /) -> bool:
        """Refuse further work; False once the transactions are being ended, and the response is about to start."""
        ...

    async def interrupt(self) -> bool:
        """End the statements that run now; whether there were any."""
        ...

    async def overrule(self) -> None:
        """Roll back what can be, and answer in place of the application."""
        ...


class Deadline:
    """The time that one request has until its response starts.

    Parameters: ``seconds`` from now; ``held`` is the request. ``cancelling`` surrounds the application.
    """

    def __init__(self, seconds: float, held: _Held) -> None:
        self.seconds = seconds
        self.expired = False
        self.cancelling = CancelScope()
        self._held = held
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._expire)
        self._interrupting: asyncio.Task[None] | None = None
        self._enforcing: asyncio.Task[None] | None = None

    def met(self) -> None:
        """The response starts: from here on nothing is ended any more."""
        self._timer.cancel()
        self._over.set()
        if self._interrupting is not None:
            self._interrupting.cancel()

    async def over(self) -> None:
        """The application has ended, by itself or not."""
        self.met()
        if self._enforcing is not None:
            await asyncio.wait([self._enforcing])
            self._enforcing.result()

    def _expire(self) -> None:
        self.expired = self._held.expire(self.seconds)
        self._interrupting = self._loop.create_task(self._interrupt())
        if self.expired:
            self._enforcing = self._loop.create_task(self._enforce())

    async def _interrupt(self) -> None:
        while not self._over.is_set():
            await self._held.interrupt()
            await self._is_over_within(GRACE)

    async def _enforce(self) -> None:
        """``def`` endpoints end with their statement, and cannot be cancelled; ``async def`` ones can be."""
        if await self._is_over_within(GRACE):
            return
        self.cancelling.cancel()
        if not await self._is_over_within(GRACE):
            await self._held.overrule()

    async def _is_over_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True
