"""Rows to bytes: a serializer prepared for one choice of fields, as JSON, NDJSON or CSV.

Numbers that JSON cannot hold exactly are text: a ``Decimal`` is a string, as the schema says. ``NaN`` and infinite
floats are ``null``. Bytes are base64, durations ISO 8601, an aware datetime keeps its offset. Whatever a raw statement
left in the database is served one way or another: a value that is not of its column's type goes out as it is.
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import enum
import io
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from .fields import Field
from .narrowing import is_binary, is_dict, is_items, is_mapping

try:
    import orjson
except ImportError:  # an extra; the standard library does the same, slower
    orjson = None  # type: ignore[assignment]

__all__ = [
    "Serializer",
    "csv_header",
    "csv_objects",
    "dump_fragments",
    "dump_json",
    "dump_lines",
    "duration",
    "fragment",
    "plain",
    "with_offset",
]

_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_MAX_DEPTH = 200


def dump_json(value: Any, *, numbers: bool = False) -> bytes:
    """Return ``value`` as JSON; what JSON has no form for is written by :func:`plain`.

    With ``numbers`` a ``Decimal`` is a number: all of its digits with orjson, without it those of a double.
    """
    if orjson is not None:
        try:
            return orjson.dumps(value, default=_exact if numbers else plain)
        except TypeError:  # an integer past 64 bits, a lone surrogate, a structure too deep: the slow way handles them
            pass
    cleaned = _clean(value, 0, _near if numbers else plain)
    return json.dumps(cleaned, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


fragment: Callable[[str], Any] | None = None if orjson is None else orjson.Fragment
"""Makes a value of :func:`dump_fragments` of text that is JSON already; None without orjson."""


def dump_fragments(value: Any) -> bytes:
    """Return ``value``, which holds fragments, as JSON; raises `TypeError` for what only :func:`dump_json` takes."""
    assert orjson is not None
    return orjson.dumps(value, default=plain)


def plain(value: Any) -> Any:
    """Return the JSON form of one Python value that JSON does not know."""
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if is_binary(value):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, dt.timedelta):
        return duration(value)
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, uuid.UUID):
        return str(value)
    if is_mapping(value):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(cast("set[Any]", value), key=str)
    if is_items(value):
        return list(value)
    return str(value)


def duration(value: dt.timedelta) -> str:
    """Return a duration in ISO 8601, such as ``P1DT2H0M3.5S`` or ``-PT1S``.

    Minutes stand between hours and seconds even where they are none, as in RFC 3339, Appendix A.
    """
    sign, value = ("-", -value) if value < dt.timedelta(0) else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    last = f"{seconds}{fraction}S" if seconds or fraction else ""
    time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes or (hours and last) else "") + last
    days = f"{value.days}D" if value.days else ""
    return f"{sign}P{days}{'T' + time if time else ''}" if days or time else "PT0S"


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal) and value.is_finite() and fragment is not None:
        return fragment(format(value, "f"))
    return plain(value)


def _near(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) and value.is_finite() else plain(value)


class Serializer:
    """Turns tuples of the values of ``fields``, in that order, into what leaves."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self.names = tuple(field.name for field in fields)
        self._converters: list[tuple[int, Callable[[Any], Any]]] = [
            (number, _shown(field)) for number, field in enumerate(self.fields) if field.timezone or field.shown
        ]

    def objects(self, rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
        """Return one object per row, its values ready for :func:`dump_json`."""
        names = self.names
        if not self._converters:
            return [dict(zip(names, row, strict=False)) for row in rows]
        return [dict(zip(names, self._converted(row), strict=False)) for row in rows]

    def array(self, rows: Iterable[Sequence[Any]]) -> bytes:
        """Return the rows as a JSON array."""
        return dump_json(self.objects(rows))

    def csv_header(self) -> bytes:
        """Return the first line of a CSV (RFC 4180)."""
        return csv_header(self.names)

    def csv_rows(self, rows: Iterable[Sequence[Any]]) -> bytes:
        """Return the rows as CSV lines; a cell that a spreadsheet would run is escaped with an apostrophe."""
        return _csv_lines([[_cell(value) for value in self._converted(row)] for row in rows])

    def csv_objects(self, objects: Iterable[Mapping[str, Any]]) -> bytes:
        """Return objects as CSV lines; see :meth:`csv_rows`."""
        return csv_objects(self.names, objects)

    def _converted(self, row: Sequence[Any]) -> Sequence[Any]:
        if not self._converters:
            return row
        values = list(row)
        for number, convert in self._converters:
            values[number] = convert(values[number])
        return values


def _shown(field: Field) -> Callable[[Any], Any]:
    shown = field.shown
    if shown is None:
        return with_offset
    return lambda value: None if value is None else shown(with_offset(value) if field.timezone else value)


def dump_lines(objects: Iterable[dict[str, Any]]) -> bytes:
    """Return one line of JSON per object (NDJSON)."""
    return b"".join(dump_json(item) + b"\n" for item in objects)


def with_offset(value: Any) -> Any:
    """Databases without an offset store UTC: say so."""
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    return value


def csv_header(names: Iterable[str]) -> bytes:
    """Return the first line of a CSV (RFC 4180)."""
    return _csv_lines([[_text_cell(name) for name in names]])


def csv_objects(names: Sequence[str], objects: Iterable[Mapping[str, Any]]) -> bytes:
    """Return objects as CSV lines; a cell that a spreadsheet would run is escaped with an apostrophe."""
    return _csv_lines([[_cell(item.get(name)) for name in names] for item in objects])


def _csv_lines(rows: list[list[Any]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    if type(value) is str:
        return _text_cell(value)
    if value is None or type(value) is int:
        return value
    if isinstance(value, enum.Enum):
        return _cell(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if isinstance(value, str):
        return _text_cell(value)
    if isinstance(value, (Mapping, list, tuple)):
        return dump_json(value).decode()
    if isinstance(value, (Decimal, dt.timedelta)):
        return plain(value)
    text = plain(value)
    return _text_cell(text) if isinstance(text, str) else text


def _text_cell(text: str) -> str:
    return f"'{text}" if text[:1] in _FORMULA else text


def _clean(value: Any, depth: int, default: Callable[[Any], Any]) -> Any:
    """Return ``value`` in types that the standard encoder takes, floats finite, no deeper than it can go."""
    if isinstance(value, enum.Enum):
        return _clean(value.value, depth, default)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= _MAX_DEPTH:
        return None
    if is_dict(value):
        return {_name(key): _clean(item, depth + 1, default) for key, item in value.items()}
    if is_items(value):
        return [_clean(item, depth + 1, default) for item in value]
    return _clean(default(value), depth + 1, default)


def _name(key: Any) -> str:
    return key if isinstance(key, str) else str(plain(key))
