"""Rolls a request back before the application's exception handlers run: they find no transaction and no lock of it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

from starlette._utils import is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from .requests import REQUEST_KEY

__all__ = ["RolledBackFirst", "roll_back_first"]


class _Request(Protocol):
    async def roll_back(self) -> None: ...


class RolledBackFirst:
    """An exception handler of the application, which finds the request's transactions rolled back."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    async def __call__(self, connection: HTTPConnection, error: Exception) -> Any:
        request: _Request | None = connection.scope.get(REQUEST_KEY)
        if request is not None:
            await request.roll_back()
        if is_async_callable(self.handler):
            return await self.handler(connection, error)
        return await run_in_threadpool(self.handler, connection, error)


def roll_back_first(scope: MutableMapping[str, Any]) -> bool:
    """Let the application that serves a request roll it back before any of its handlers; False where none serves yet.

    Starlette calls the handlers inside of the route, long before the exception or its answer reaches a middleware.
    """
    handlers: tuple[dict[Any, Any], dict[Any, Any]] | None = scope.get("starlette.exception_handlers")
    if handlers is None:
        return False
    if not isinstance(handlers[0].get(HTTPException), RolledBackFirst):  # Starlette always has one for it
        for each in handlers:
            wrapped = {key: RolledBackFirst(handler) for key, handler in each.items() if handler is not None}
            each.update(wrapped)
    return True
