"""When a row was made and when it was last changed."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from ..types import UTCDateTime, utc_now, utc_timestamp

__all__ = ["TimestampMixin"]


def _created_at(context: Any) -> dt.datetime:
    """A new row was last changed when it was made."""
    created: dt.datetime | None = context.get_current_parameters(isolate_multiinsert_groups=True).get("created_at")
    return created if isinstance(created, dt.datetime) else utc_now()


class TimestampMixin:
    """Adds ``created_at`` and ``updated_at``, aware and in UTC on every database.

    Both are set by the application, so that they are known after a flush without another query, also in async
    sessions. A row that SQL inserts without them gets the database's time. ``updated_at`` changes with every UPDATE
    that goes through SQLAlchemy.
    """

    created_at: Mapped[dt.datetime] = mapped_column(
        UTCDateTime, default=utc_now, server_default=utc_timestamp(), nullable=False, sort_order=900
    )
    updated_at: Mapped[dt.datetime] = mapped_column(
        UTCDateTime,
        default=_created_at,
        onupdate=utc_now,
        server_default=utc_timestamp(),
        nullable=False,
        sort_order=901,
    )
