"""The engines of a database: one for threads, one for each event loop, each built on first use."""

from __future__ import annotations

from .registry import live_engines as live_engines
from .replicas import Replicas as Replicas
from .source import EngineSource as EngineSource

__all__ = ["EngineSource", "Replicas", "live_engines"]
