"""Column types that behave alike on every database."""

from __future__ import annotations

from .keys import BigIntegerKey as BigIntegerKey
from .utc import UTCDateTime as UTCDateTime
from .utc import utc_now as utc_now
from .utc import utc_timestamp as utc_timestamp

__all__ = ["BigIntegerKey", "UTCDateTime", "utc_now", "utc_timestamp"]
