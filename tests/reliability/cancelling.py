"""Runs a coroutine and cancels it at its n-th suspension, by the task or by an AnyIO cancel scope."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio

__all__ = ["WAYS", "Work", "by_cancel_scope", "by_task"]

Work = Callable[[], Coroutine[Any, Any, Any]]


class _Watched:
    """Awaits a coroutine and calls ``interrupt`` while it suspends for the n-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, interrupt: Callable[[], object]) -> None:
        self._coroutine = coroutine
        self._at = at
        self._interrupt = interrupt
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731  # replaced by a throw
        while True:
            try:
                awaited = step()
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            if self.suspensions == self._at:
                self._interrupt()
            try:
                value = yield awaited
            except BaseException as error:
                step = _throwing(self._coroutine, error)
            else:
                step = _sending(self._coroutine, value)


def _throwing(coroutine: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


def _sending(coroutine: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


async def by_task(work: Work, at: int) -> str:
    """Cancel with ``Task.cancel()``; returns "cancelled", "done", or "early" when it ended before that suspension."""

    async def run() -> bool:
        task = asyncio.current_task()
        assert task is not None
        watched = _Watched(work(), at, task.cancel)
        await watched
        return watched.suspensions >= at

    task = asyncio.ensure_future(run())
    await asyncio.wait({task})
    if task.cancelled():
        return "cancelled"
    return "done" if task.result() else "early"


async def by_cancel_scope(work: Work, at: int) -> str:
    """The same with ``CancelScope.cancel()``, as FastAPI and Starlette do."""

    async def run() -> str:
        with anyio.CancelScope() as scope:
            watched = _Watched(work(), at, scope.cancel)
            await watched
            return "done" if watched.suspensions >= at else "early"
        return "cancelled"

    return await asyncio.ensure_future(run())


WAYS: dict[str, Callable[[Work, int], Awaitable[str]]] = {"task": by_task, "scope": by_cancel_scope}
