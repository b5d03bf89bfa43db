"""Text and JSON of a query turned into values of a column, checked before the driver sees them."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import enum
import math
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeGuard

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from ..fields import Field
from .errors import InvalidValueError, listed
from .kinds import PATTERNS, Kind, is_typeless, kind_of
from .patterns import Pattern

__all__ = ["INT64", "Number", "check_text", "is_list", "parse_flag", "parse_json", "parse_text", "split_list"]

MAX_TEXT = 10_000
INT64 = (-(2**63), 2**63 - 1)
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,80}(?:\.[0-9]{0,80})?|\.[0-9]{1,80})(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?"
_TIME = re.compile(_CLOCK, re.ASCII)
_TIME_WITH_OFFSET = re.compile(rf"({_CLOCK})(?:[Zz]|([+ -])(\d\d:?\d\d))?", re.ASCII)
_DATETIME = re.compile(rf"({_DATE.pattern})(?:[Tt ]({_CLOCK})(?:([Zz])|([+ -])(\d\d):?(\d\d))?)?", re.ASCII)
_DURATION = re.compile(
    r"([+-])?P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,7})H)?(?:(\d{1,9})M)?(?:(\d{1,11})(?:\.(\d{1,6}))?S)?)?",
    re.ASCII,
)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}", re.ASCII)
_INTEGER_DIGITS = 65
_FRACTION_DIGITS = 30
_LONGEST_INTERVAL = dt.timedelta(days=300_000)
_BINDING = DefaultDialect()


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether a value of JSON is an array."""
    return isinstance(value, list)


class Number(str):
    """The text of a number in JSON, kept as it was written."""

    __slots__ = ()


def parse_text(field: Field, operator: str, text: str) -> Any:
    """Return the value that ``text`` gives to one operand. Raises :class:`InvalidValueError`."""
    if operator == "isnull":
        return parse_flag(text)
    if operator in PATTERNS:
        check_text(text)
        return Pattern.of(operator, text)
    value = _PARSERS[kind_of(field)](field, text)
    _check_binding(field, value)
    return value


def parse_json(field: Field, operator: str, value: Any) -> Any:
    """Return the value of one operand in a JSON filter; numbers come as :class:`Number`."""
    kind = kind_of(field)
    if isinstance(value, bool):
        if operator == "isnull":
            return value
        if kind is Kind.BOOLEAN and operator not in PATTERNS:
            return parse_text(field, operator, "true" if value else "false")
    elif isinstance(value, Number):
        numeric = kind in (Kind.INTEGER, Kind.FLOAT, Kind.DECIMAL)
        if operator not in PATTERNS and operator != "isnull" and (numeric or _has_numbers(field) or is_typeless(field)):
            return parse_text(field, operator, str(value))
    elif isinstance(value, str):
        return parse_text(field, operator, value)
    wanted = "true or false" if operator == "isnull" else "a string" if operator in PATTERNS else _described(field)
    raise InvalidValueError(f"must be {wanted}", "type_error")


def parse_flag(text: str) -> bool:
    """Return the boolean that a text stands for."""
    lowered = text.lower() if len(text) <= 5 else ""
    if lowered in ("true", "1"):
        return True
    if lowered in ("false", "0"):
        return False
    raise InvalidValueError("must be true or false", "bool_parsing")


def check_text(text: str, longest: int = MAX_TEXT) -> None:
    """Refuse text that some database cannot take."""
    if len(text) > longest:
        raise InvalidValueError(f"must have at most {longest} characters", "string_too_long")
    if "\x00" in text:
        raise InvalidValueError("must not hold a NUL character", "string_nul")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidValueError("must be valid Unicode", "string_unicode") from None


def split_list(text: str) -> list[str]:
    """Split at commas; a backslash before a comma or a backslash makes it part of the item."""
    if "\\" not in text:
        return text.split(",")
    items: list[str] = []
    current: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\" and text[position + 1 : position + 2] in (",", "\\"):
            position += 1
            current.append(text[position])
        elif char == ",":
            items.append("".join(current))
            current.clear()
        else:
            current.append(char)
        position += 1
    items.append("".join(current))
    return items


def _text(field: Field, text: str) -> str:
    check_text(text)
    if field.max_length is not None and len(text) > field.max_length:
        raise InvalidValueError(f"must have at most {field.max_length} characters", "string_too_long")
    return text


def _integer(field: Field, text: str) -> int:
    low = INT64[0] if field.minimum is None else field.minimum
    high = INT64[1] if field.maximum is None else field.maximum
    if _INTEGER.fullmatch(text):
        value = int(text)
        if low <= value <= high:
            return value
    elif not (text.isascii() and text.lstrip("+-").isdigit()):
        raise InvalidValueError("must be an integer", "int_parsing")
    raise InvalidValueError(f"must be between {low} and {high}", "int_out_of_range")


def _float(_field: Field, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise InvalidValueError("must be a number", "float_parsing")
    value = float(text)
    if not math.isfinite(value):
        raise InvalidValueError("must be a finite number of double precision", "finite_number")
    return value


def _decimal(field: Field, text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise InvalidValueError("must be a decimal number", "decimal_parsing")
    before, after = _INTEGER_DIGITS - _FRACTION_DIGITS, _FRACTION_DIGITS
    if field.precision is not None and field.scale is not None:
        before = field.precision - field.scale
    message = f"must have at most {before} digits before the point and {after} after it"
    if not _DECIMAL.fullmatch(text):
        raise InvalidValueError(message, "decimal_digits")
    value = Decimal(text)
    if value == 0:
        return Decimal(0)
    plain = Decimal(format(value, "f"))
    if plain.adjusted() >= before or len(format(plain, "f").partition(".")[2].rstrip("0")) > after:
        raise InvalidValueError(message, "decimal_digits")
    return plain


def _boolean(_field: Field, text: str) -> bool:
    return parse_flag(text)


def _date(_field: Field, text: str) -> dt.date:
    if _DATE.fullmatch(text):
        try:
            return dt.date.fromisoformat(text)
        except ValueError:
            pass
    raise InvalidValueError("must be a date such as 2026-01-31", "date_parsing")


def _time(field: Field, text: str) -> dt.time:
    """A column that has offsets takes one; without, it is UTC."""
    found = (_TIME_WITH_OFFSET if field.timezone else _TIME).fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        if not field.timezone:
            return dt.time.fromisoformat(text)
        clock, sign, offset = found.groups()
        return dt.time.fromisoformat(f"{clock}{(sign or '+').replace(' ', '+')}{offset or '00:00'}")
    except ValueError:
        raise InvalidValueError("must be a time such as 13:45:00", "time_parsing") from None


def _datetime(field: Field, text: str) -> dt.datetime:
    """An offset is turned into UTC; a column that has offsets wants one. A bare date is its midnight."""
    example = "2026-01-31T13:45:00Z" if field.timezone else "2026-01-31T13:45:00"
    found = _DATETIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        day, clock, zulu, sign, hours, minutes = found.groups()
        value = dt.datetime.fromisoformat(f"{day}T{clock or '00:00'}")
        if zulu or sign:
            ahead = dt.timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
            if ahead >= dt.timedelta(days=1):
                raise ValueError(text)
            value = value + ahead if sign == "-" else value - ahead
    except (ValueError, OverflowError):
        raise InvalidValueError(f"must be a date and time such as {example}", "datetime_parsing") from None
    if not field.timezone:
        return value
    if not (zulu or sign):
        raise InvalidValueError(f"must have an offset, such as {example}", "timezone_aware")
    return value.replace(tzinfo=dt.UTC)


def _interval(_field: Field, text: str) -> dt.timedelta:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()[1:]) or text.endswith("T"):
        raise InvalidValueError("must be a duration such as P1DT2H30M or PT0.5S", "time_delta_parsing")
    sign, weeks, days, hours, minutes, seconds, fraction = found.groups()
    value = dt.timedelta(
        weeks=int(weeks or 0),
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=int(seconds or 0),
        microseconds=int((fraction or "").ljust(6, "0")),
    )
    if value > _LONGEST_INTERVAL:
        raise InvalidValueError(f"must be at most {_LONGEST_INTERVAL.days} days", "time_delta_range")
    return -value if sign == "-" else value


def _uuid(field: Field, text: str) -> uuid.UUID | str:
    if not _UUID.fullmatch(text):
        raise InvalidValueError("must be a UUID", "uuid_parsing")
    value = uuid.UUID(text)
    return value if field.python_type is uuid.UUID else str(value)


def _choice(field: Field, text: str) -> Any:
    kind = field.python_type
    if issubclass(kind, enum.Enum):
        for member in kind:
            if str(member.value) == text:
                return member
    elif text in (field.choices or ()):
        return text
    raise InvalidValueError(f"must be one of {listed(field.choices or ())}", "enum")


def _has_numbers(field: Field) -> bool:
    return any(isinstance(choice, int) for choice in field.choices or ())


def _bytes(field: Field, text: str) -> bytes:
    check_text(text, MAX_TEXT * 4)
    if text.startswith("\\x"):
        text = _of_hex(text)
    standard = text.translate({0x2D: "+", 0x5F: "/", 0x20: "+"})
    if not _BASE64.fullmatch(standard):
        raise InvalidValueError("must be in base64", "bytes_invalid_encoding")
    try:
        value = base64.b64decode(standard + "=" * (-len(standard) % 4))
    except binascii.Error:
        raise InvalidValueError("must be in base64", "bytes_invalid_encoding") from None
    if field.max_length is not None and len(value) > field.max_length:
        raise InvalidValueError(f"must have at most {field.max_length} bytes", "bytes_too_long")
    return value


def _of_hex(text: str) -> str:
    """PostgreSQL's own form of bytes, in base64."""
    try:
        return base64.b64encode(bytes.fromhex(text[2:])).decode()
    except ValueError:
        raise InvalidValueError("must be in base64", "bytes_invalid_encoding") from None


def _never(_field: Field, _text: str) -> Any:
    raise InvalidValueError("cannot be compared; ask whether it is NULL with __isnull", "unknown_operator")


_PARSERS: dict[Kind, Callable[[Field, str], Any]] = {
    Kind.TEXT: _text,
    Kind.OPAQUE: _text,
    Kind.INTEGER: _integer,
    Kind.FLOAT: _float,
    Kind.DECIMAL: _decimal,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.DATETIME: _datetime,
    Kind.INTERVAL: _interval,
    Kind.UUID: _uuid,
    Kind.ENUM: _choice,
    Kind.BYTES: _bytes,
    Kind.JSON: _never,
    Kind.INCOMPARABLE: _never,
}


def _check_binding(field: Field, value: Any) -> None:
    """A column type written by the user may refuse a value: that is the caller's fault, not the server's."""
    sql_type = field.sql_type
    if not isinstance(sql_type, sa.types.TypeDecorator) or isinstance(sql_type, (sa.Interval, sa.PickleType)):
        return
    try:
        sql_type.process_bind_param(value, _BINDING)
    except NotImplementedError:
        return
    except Exception as error:
        raise InvalidValueError("is not a value of this column") from error


def _described(field: Field) -> str:
    kind = kind_of(field)
    if kind is Kind.ENUM:
        return f"one of {listed(field.choices or ())}"
    return "a string" if kind in (Kind.TEXT, Kind.OPAQUE) else kind.value
