"""Which engines live in this process, and what a fork does to them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine

__all__ = ["live_engines", "register", "register_source", "unwatch_engines", "watch_engines"]

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_sources: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: list[Any] = []
_watchers: list[Callable[[Engine], None]] = []


def register(engine: Engine) -> None:
    """Note an engine as live, and show it to those who watch."""
    known = engine in _engines
    _engines.add(engine)
    if not known:
        for watcher in _watchers:
            watcher(engine)


def watch_engines(watcher: Callable[[Engine], None]) -> None:
    """Call ``watcher`` with every live engine, and with every one that is built from now on."""
    _watchers.append(watcher)
    for engine in live_engines():
        watcher(engine)


def unwatch_engines(watcher: Callable[[Engine], None]) -> None:
    """Call ``watcher`` no more."""
    _watchers.remove(watcher)


def live_engines() -> list[Engine]:
    """The engines built in this process and not yet collected; an async engine is listed by its ``sync_engine``."""
    return list(_engines)


def register_source(source: Any) -> None:
    """Let ``source.forget()`` run in every forked child."""
    _sources.add(source)


def _after_fork() -> None:
    """A child builds engines of its own; the parent's stay referenced, so that no finaliser closes a shared socket."""
    _inherited.extend(_engines)
    _engines.clear()
    _inherited.extend(source.forget() for source in list(_sources))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
