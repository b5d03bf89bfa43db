"""How a column of SQLite stores moments: as text in one of several forms, or as numbers.

SQLite has no type for them (https://www.sqlite.org/datatype3.html, 2.2). What is written, and what a filter or a key
is compared with, has the form of the rows that are there, else it would be equal to none of them.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MomentForm", "form_of", "number_of"]

_UTC = ("Z", "+00:00", "+00")
_MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)?(?P<separator>[ T])?"
    r"(?:(?P<clock>\d\d:\d\d)(?P<seconds>:\d\d)?(?:\.(?P<fraction>\d{1,6}))?(?P<suffix>Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class MomentForm:
    """The form of the texts in a column; ``fraction`` is the number of digits after the seconds.

    ``optional`` tells that a fraction of zero is left out, ``brief`` that seconds of zero are, and ``bare`` that
    midnight is a day alone.
    """

    separator: str = " "
    fraction: int = 6
    optional: bool = False
    brief: bool = False
    bare: bool = False
    suffix: str = ""

    def write(self, value: dt.datetime | dt.time) -> str:
        """Return the text of a moment, or of a time of day; a moment with an offset is one of UTC."""
        day = f"{value.year:04}-{value.month:02}-{value.day:02}" if isinstance(value, dt.datetime) else ""
        clock = f"{value.hour:02}:{value.minute:02}"
        micros = f"{value.microsecond:06}"
        if self.bare and day and (value.hour, value.minute, value.second, value.microsecond) == (0, 0, 0, 0):
            return day
        if value.second or value.microsecond or not self.brief:
            clock += f":{value.second:02}"
        if value.microsecond or (self.fraction and not self.optional):
            digits = max(self.fraction, len(micros.rstrip("0")))
            clock += f".{micros[:digits]}"
        return f"{day}{self.separator if day else ''}{clock}{self.suffix}"


def form_of(values: Iterable[Any]) -> MomentForm | None:
    """Return the form that all these texts have, or None where they have none in common."""
    found = [_MOMENT.fullmatch(value) if isinstance(value, str) else None for value in values]
    parts = [match.groupdict() for match in found if match is not None]
    if not parts or len(parts) < len(found):
        return None
    clocks = [part for part in parts if part["clock"]]
    if any(bool(part["day"] and part["clock"]) != bool(part["separator"]) for part in parts):
        return None
    if len({(part["separator"], part["suffix"]) for part in clocks}) > 1 or len({bool(p["day"]) for p in parts}) > 1:
        return None
    if not clocks:
        return MomentForm(fraction=0, bare=True)
    suffix = clocks[0]["suffix"] or ""
    if suffix and suffix not in _UTC:
        return None
    digits = [len(part["fraction"] or "") for part in clocks]
    return MomentForm(
        separator=clocks[0]["separator"] or " ",
        fraction=max(digits),
        optional=min(digits) == 0,
        brief=any(part["seconds"] is None for part in clocks),
        bare=len(clocks) < len(parts),
        suffix=suffix,
    )


def number_of(values: Sequence[Any]) -> type[int | float] | None:
    """Return the kind of number that all these values are, or None."""
    if not values or not all(type(value) in (int, float) for value in values):
        return None
    return int if all(type(value) is int for value in values) else float
