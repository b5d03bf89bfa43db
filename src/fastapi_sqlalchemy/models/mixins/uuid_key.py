"""Keys that the application makes, in the order of time."""

from __future__ import annotations

import secrets
import threading
import time
import uuid

from sqlalchemy import Uuid
from sqlalchemy.orm import Mapped, mapped_column

__all__ = ["UUIDKeyMixin", "uuid7"]

_lock = threading.Lock()
_last = 0


def uuid7() -> uuid.UUID:
    """Return a UUID of version 7: milliseconds, then a fraction that only grows in this process, then 62 random bits.

    Keys made one after the other sort in that order, so that an index grows at its end.

    Source: RFC 9562, sections 5.7 and 6.2 (method 3, with the last value plus one when the clock stands still).
    """
    global _last
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    stamp = milliseconds << 12 | nanoseconds * 4096 // 1_000_000
    with _lock:
        stamp = _last = max(stamp, _last + 1)
    return uuid.UUID(
        int=(stamp >> 12 & 0xFFFF_FFFF_FFFF) << 80
        | 0x7 << 76
        | (stamp & 0xFFF) << 64
        | 0b10 << 62
        | secrets.randbits(62)
    )


class UUIDKeyMixin:
    """Adds a primary key ``id`` of version 7 UUIDs: a native UUID where the database has one, else 32 characters."""

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid7, sort_order=-900)
