"""Caches that keep whole applications alive after their test, so that the collector has ever more to look through."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["empty_caches"]

_FASTAPI = vars(importlib.import_module("fastapi.dependencies.models")).values()
_CLEAR: list[Callable[[], Any]] = [value.cache_clear for value in _FASTAPI if hasattr(value, "cache_clear")]


def empty_caches() -> None:
    """Empty FastAPI's cache of endpoints and typing's of annotations."""
    of_typing: Iterable[Callable[[], Any]] = getattr(typing, "_cleanups", ())
    for clear in (*_CLEAR, *of_typing):
        clear()
