"""Which engines live in this process, and what a fork does to them."""

from __future__ import annotations

import os
import weakref
from typing import Any

from sqlalchemy import Engine

__all__ = ["live_engines", "register", "register_source"]

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_sources: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: list[Any] = []


def register(engine: Engine) -> None:
    """Note an engine as live."""
    _engines.add(engine)


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
