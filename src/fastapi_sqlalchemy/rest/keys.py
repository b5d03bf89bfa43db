"""Keys of rows in a path: one segment, composite parts joined by commas, values tilde-escaped.

``~XX`` stands for the byte XX of the UTF-8 text, so that a slash, a comma or a percent sign in a key survives every
server and proxy; a lone ``~`` is the empty text.
"""

from __future__ import annotations

import base64
import datetime as dt
import enum
import re
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from .fields import Field
from .narrowing import is_binary
from .serialize import duration

__all__ = ["KeyNotFoundError", "MalformedKeyError", "decode_key", "encode_key", "escape", "unescape"]

_ESCAPED = re.compile(r"[^A-Za-z0-9_.@:-]")
_ESCAPE = re.compile(rb"~([0-9A-Fa-f]{2})")
_DURATION = TypeAdapter(dt.timedelta)
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


class MalformedKeyError(ValueError):
    """A key segment that cannot be read as the key of the resource."""


class KeyNotFoundError(LookupError):
    """A well-formed key that no row can have: out of the column's range or length."""


def escape(text: str) -> str:
    """Return ``text`` as a part of a path segment."""
    if not text:
        return "~"
    escaped = _ESCAPED.sub(lambda found: "".join(f"~{byte:02X}" for byte in found.group().encode()), text)
    return f"~2E{escaped[1:]}" if escaped.startswith(".") else escaped


def unescape(part: str) -> str:
    """Return the text of a part of a path segment; a tilde without two hex digits stands for itself."""
    if part == "~":
        return ""
    try:
        raw = _ESCAPE.sub(lambda found: bytes.fromhex(found.group(1).decode()), part.encode())
        return raw.decode()
    except UnicodeError as error:
        raise MalformedKeyError("The key is not valid UTF-8.") from error


def encode_key(values: Sequence[Any]) -> str:
    """Return the path segment of a key."""
    return ",".join(escape(_text(value)) for value in values)


def decode_key(fields: Sequence[Field], segment: str) -> tuple[Any, ...]:
    """Return the values of a path segment, one per key field.

    Raises :class:`MalformedKeyError` where the text is no value of the column's type, :class:`KeyNotFoundError` where
    it is one that the column cannot hold.
    """
    parts = segment.split(",") if len(fields) > 1 else [segment]
    if len(parts) != len(fields):
        names = ", ".join(field.name for field in fields)
        raise MalformedKeyError(f"The key has {len(fields)} parts ({names}), separated by commas.")
    return tuple(_value(field, unescape(part)) for field, part in zip(fields, parts, strict=True))


def _text(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_binary(value):
        return base64.urlsafe_b64encode(bytes(value)).decode()
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.timedelta):
        return duration(value)
    return str(value)


def _value(field: Field, text: str) -> Any:
    try:
        value = _parse(field, text)
    except (ValueError, ArithmeticError) as error:
        raise MalformedKeyError(f"The key {field.name} is not {_kind(field.python_type)}.") from error
    if isinstance(value, str) and "\x00" in value:
        raise MalformedKeyError(f"The key {field.name} holds a NUL character.")
    if isinstance(value, (str, bytes)) and field.max_length is not None and len(value) > field.max_length:
        raise KeyNotFoundError(field.name)
    number: Any = value
    if field.minimum is not None and field.maximum is not None and not field.minimum <= number <= field.maximum:
        raise KeyNotFoundError(field.name)
    return value


def _parse(field: Field, text: str) -> Any:
    kind = field.python_type
    if issubclass(kind, enum.Enum):
        return _member(kind, text)
    if kind is bool:
        return text.lower() in ("true", "1") if text.lower() in ("true", "1", "false", "0") else _refuse()
    if kind is int:
        return int(text) if _INTEGER.fullmatch(text) else _refuse()
    if kind in (float, Decimal):
        return kind(text) if _NUMBER.fullmatch(text) else _refuse()
    if kind is uuid.UUID:
        return uuid.UUID(text)
    if kind in (dt.datetime, dt.date, dt.time):
        return kind.fromisoformat(text)
    if kind is dt.timedelta:
        return _DURATION.validate_strings(text)
    if kind is bytes:
        return base64.b64decode(text, altchars=b"-_", validate=True)
    return text


def _member(kind: type[enum.Enum], text: str) -> enum.Enum:
    for member in kind:
        if str(member.value) == text:
            return member
    raise ValueError(text)


def _refuse() -> Any:
    raise ValueError("malformed")


def _kind(kind: type[Any]) -> str:
    return {int: "an integer", float: "a number", Decimal: "a number", bool: "true or false"}.get(
        kind, f"a valid {kind.__name__}"
    )
