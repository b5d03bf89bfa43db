"""Listeners on every engine of this process, those that are built later included, until they are taken off."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from sqlalchemy import Engine, event

from ..engines.registry import unwatch_engines, watch_engines

__all__ = ["EngineEvents", "Listener"]

Listener: TypeAlias = tuple[str, Callable[..., Any]]
"""The name of an event of SQLAlchemy, and what is called."""


class EngineEvents:
    """Puts what ``listeners_of`` returns for an engine on each one, from now on and until ``close()``."""

    def __init__(self, listeners_of: Callable[[Engine], Iterable[Listener]]) -> None:
        self._listeners_of = listeners_of
        self._listening: list[tuple[weakref.ref[Engine], str, Callable[..., Any]]] = []
        watch_engines(self._listen)

    def close(self) -> None:
        """Take all of them off."""
        unwatch_engines(self._listen)
        for reference, name, function in self._listening:
            engine = reference()
            if engine is not None:
                event.remove(engine, name, function)
        self._listening.clear()

    def _listen(self, engine: Engine) -> None:
        self._listening[:] = [item for item in self._listening if item[0]() is not None]
        for name, function in self._listeners_of(engine):
            event.listen(engine, name, function)
            self._listening.append((weakref.ref(engine), name, function))
