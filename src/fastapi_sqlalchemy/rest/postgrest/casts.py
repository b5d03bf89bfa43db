"""Casts and paths into JSON of a selection, done on the values that were read, so that databases answer alike."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import re
import uuid
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from ..fields import Field
from ..narrowing import is_binary, is_dict, is_items
from ..query.errors import listed, shown
from ..serialize import dump_json, plain
from .errors import failure

__all__ = ["shown_as"]

_RANGES: Final = {2: 2**15, 4: 2**31, 8: 2**63}
_PLACE: Final = re.compile(r"-?[0-9]{1,9}")
_MAX_DIGITS: Final = 1000
"""Before the point of a number and after it: a short text with an exponent stands for as many zeros as it likes."""


def shown_as(field: Field, path: tuple[str, ...], as_text: bool, cast: str | None) -> Callable[[Any], Any] | None:
    """Return what turns a value of a column into the one that was asked for; None where that is the same.

    Bytes are in PostgreSQL's own form, ``\\x`` and hexadecimal digits.

    Raises the problem of a type that no value is cast to, or of a path into what is no JSON.
    """
    if path and field.python_type not in (dict, list):
        raise failure(400, "42883", f"The column {field.name} is not JSON: no path leads into it.")
    if cast is not None and cast not in _CASTS:
        raise failure(400, "42704", f'type "{shown(cast)}" does not exist', hint=f"There is: {listed(_CASTS)}.")
    if not path and cast is None:
        return _hex if field.python_type is bytes else None
    convert = None if cast is None else _CASTS[cast]

    def show(value: Any) -> Any:
        try:
            found = _at(value, path)
            if as_text and found is not None:
                found = _text(found)
            return found if convert is None or found is None else convert(found)
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            msg = f"A value of {field.name} cannot be cast to {cast or 'text'}."
            raise failure(400, "22P02", msg) from None

    return show


def _hex(value: Any) -> Any:
    return f"\\x{bytes(value).hex()}" if is_binary(value) else value


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if is_dict(value):
            value = value.get(key)
        elif is_items(value) and _PLACE.fullmatch(key):
            place = int(key)
            value = value[place] if -len(value) <= place < len(value) else None
        else:
            return None
    return value


def _text(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return _text(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return dump_json(value).decode()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return str(plain(_hex(value)))


def _integer(size: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if isinstance(value, (str, bool, int)):
            found = int(value)
        else:
            found = int(_number(value).quantize(Decimal(1), ROUND_HALF_EVEN))
        if not -_RANGES[size] <= found < _RANGES[size]:
            raise ValueError(found)
        return found

    return convert


def _number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise TypeError(value)
    found = Decimal(repr(value) if isinstance(value, float) else value)
    exponent = found.as_tuple().exponent  # a letter where the number is not finite
    if isinstance(exponent, str) or exponent < -_MAX_DIGITS or found.adjusted() >= _MAX_DIGITS:
        raise ValueError(value)
    return found


def _float(value: Any) -> float:
    found = float(_number(value))
    if not math.isfinite(found):
        raise ValueError(value)
    return found


def _boolean(value: Any) -> bool:
    if isinstance(value, (bool, int)):
        return bool(value)
    words = {"true": True, "t": True, "1": True, "yes": True, "on": True}
    words |= {"false": False, "f": False, "0": False, "no": False, "off": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise ValueError(value)


def _date(value: Any) -> dt.date:
    if isinstance(value, dt.datetime):
        return value.date()
    return value if isinstance(value, dt.date) else dt.date.fromisoformat(value)


def _moment(value: Any) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)  # noqa: DTZ001  # a date has no offset
    return dt.datetime.fromisoformat(value)


def _time(value: Any) -> dt.time:
    if isinstance(value, dt.datetime):
        return value.time()
    return value if isinstance(value, dt.time) else dt.time.fromisoformat(value)


def _uuid(value: Any) -> uuid.UUID:
    if not isinstance(value, (uuid.UUID, str)):
        raise TypeError(value)
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


_CASTS: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("text", "varchar", "character varying", "char", "bpchar"), _text),
    **dict.fromkeys(("smallint", "int2"), _integer(2)),
    **dict.fromkeys(("integer", "int", "int4"), _integer(4)),
    **dict.fromkeys(("bigint", "int8"), _integer(8)),
    **dict.fromkeys(("real", "float", "float4", "float8", "double precision"), _float),
    **dict.fromkeys(("numeric", "decimal"), _number),
    **dict.fromkeys(("boolean", "bool"), _boolean),
    "date": _date,
    "timestamp": _moment,
    "time": _time,
    "uuid": _uuid,
    **dict.fromkeys(("json", "jsonb"), _json),
}
