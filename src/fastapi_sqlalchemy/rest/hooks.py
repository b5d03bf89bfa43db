"""Hooks: the user's functions before and after each operation, plain or async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from sqlalchemy.util.concurrency import await_only, in_greenlet

__all__ = ["HOOK_NAMES", "Hooks"]

_CHANGES = ("create", "update", "replace", "delete", "upsert")
HOOK_NAMES = (*(f"{when}_{change}" for change in _CHANGES for when in ("before", "after")), "after_read")


class Hooks:
    """The hooks of one router.

    ``target`` is any object (or class, or module) with some of the functions named in ``HOOK_NAMES``; a misspelt one
    raises ``ValueError``. Each is called as ``hook(session, values_or_row)``; one that takes a third argument is also
    given the current row (before) or the values (after).
    """

    def __init__(self, target: object | None) -> None:
        self._functions: dict[str, tuple[Callable[..., Any], int]] = {}
        if target is None:
            return
        for name in dir(target):
            if not name.startswith(("before_", "after_")):
                continue
            if name not in HOOK_NAMES:
                raise ValueError(f"There is no hook named {name}; the hooks are {', '.join(HOOK_NAMES)}.")
            function = getattr(target, name)
            if callable(function):
                self._functions[name] = (function, _arity(function))

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def around(self, operation: str) -> bool:
        """Whether there is a hook before or after the operation."""
        return f"before_{operation}" in self._functions or f"after_{operation}" in self._functions

    def call(self, loop: asyncio.AbstractEventLoop | None, name: str, *arguments: Any) -> Any:
        """Call a hook where there is one; an async one is awaited, from a greenlet or on ``loop``."""
        found = self._functions.get(name)
        if found is None:
            return None
        function, arity = found
        result = function(*arguments[:arity])
        if not inspect.isawaitable(result):
            return result
        if in_greenlet():
            return await_only(result)
        if loop is None:
            raise RuntimeError(f"The hook {name} is async and there is no event loop to run it on.")
        return asyncio.run_coroutine_threadsafe(_awaited(result), loop).result()


async def _awaited(result: Any) -> Any:
    return await result


def _arity(function: Callable[..., Any]) -> int:
    parameters = inspect.signature(function).parameters.values()
    if any(item.kind is item.VAR_POSITIONAL for item in parameters):
        return 3
    positional = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    return min(len(positional), 3)
