"""Mixins for models: timestamps, UUID keys, soft delete, optimistic locking."""

from __future__ import annotations

from .soft_delete import SoftDeleteMixin as SoftDeleteMixin
from .timestamps import TimestampMixin as TimestampMixin
from .uuid_key import UUIDKeyMixin as UUIDKeyMixin
from .uuid_key import uuid7 as uuid7
from .versioned import VersionMixin as VersionMixin

__all__ = ["SoftDeleteMixin", "TimestampMixin", "UUIDKeyMixin", "VersionMixin", "uuid7"]
