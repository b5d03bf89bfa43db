"""Models: their base class, their helpers, mixins and column types."""

from __future__ import annotations

from .base import ModelBase as ModelBase

__all__ = ["ModelBase"]
