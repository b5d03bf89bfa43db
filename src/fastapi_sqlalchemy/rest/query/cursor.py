"""Opaque cursors: a place in an order as url-safe text, signed, bound to its resource and sort.

A cursor holds the raw values of the sort columns of one row, as the database gave them, so that a comparison with
them is exact (a float of single precision, a date that SQLite keeps in another form). Sort columns are never secret.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import json
import math
import re
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from ..resource import Resource
from .errors import InvalidValueError
from .kinds import Kind, is_sortable, kind_of
from .tree import Cursor, SortKey
from .values import is_list

__all__ = ["MAX_CURSOR", "decode_cursor", "encode_cursor", "is_exact", "total_order"]

MAX_CURSOR = 4_096
_write = json.JSONEncoder(separators=(",", ":")).encode
_VERSION = 2
_MAC = 16
_SORT = 6
_LOST = "\N{REPLACEMENT CHARACTER}"
_TEXT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_FLOAT = re.compile(r"-?(?:[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?|inf)|nan", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]{1,3000}(?:\.[0-9]{1,3000})?|NaN|-?Infinity", re.ASCII)
_INTEGERS = (-(2**63), 2**64 - 1)


def total_order(resource: Resource, sort: Sequence[SortKey]) -> tuple[SortKey, ...]:
    """Return the sort with the key after it, so that no two rows are equal; the key goes the way of the last column.

    An index on the last column then serves both: most databases keep the key at the end of it. Without a key, every
    column that can be sorted follows.
    """
    named = {key.field.name for key in sort}
    descending = sort[-1].descending if sort else False
    if resource.key:
        sort = (*sort, *(SortKey(field, descending) for field in resource.key if field.name not in named))
        if resource.has_unique_key:
            return sort
        named = {key.field.name for key in sort}
    rest = (field for field in resource.fields.values() if field.name not in named and is_sortable(field))
    return (*sort, *(SortKey(field) for field in rest if kind_of(field) is not Kind.BYTES))


def encode_cursor(resource: Resource, order: Sequence[SortKey], cursor: Cursor, key: bytes) -> str | None:
    """Return a cursor as text, or None where it would be too long for a URL or not exact (see :func:`is_exact`).

    The values are those of the columns of ``order``, as the database gave them.
    """
    if cursor.values is not None and not is_exact(cursor.values):
        return None
    values = None if cursor.values is None else [_packed(value) for value in cursor.values]
    head = [_VERSION, int(cursor.backward), cursor.position, cursor.ties]
    body = _write([*head, values]).encode()
    digest = _sort_digest(resource, order)
    text = base64.urlsafe_b64encode(_mac(key, digest, body) + digest + body).decode().rstrip("=")
    return text if len(text) <= MAX_CURSOR else None


def is_exact(values: Sequence[Any]) -> bool:
    """Whether values are what the database holds: text that is not UTF-8 has lost bytes on its way."""
    return not any(isinstance(value, str) and _LOST in value for value in values)


def decode_cursor(text: str, resource: Resource, order: Sequence[SortKey], key: bytes) -> Cursor:
    """Return the place that a cursor names; the empty text is the start. Raises :class:`InvalidValueError`."""
    if not text:
        return Cursor(None)
    if len(text) > MAX_CURSOR or not _TEXT.fullmatch(text):
        raise InvalidValueError("is not one that this list has given", "cursor")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise InvalidValueError("is not one that this list has given", "cursor") from None
    mac, digest, body = raw[:_MAC], raw[_MAC : _MAC + _SORT], raw[_MAC + _SORT :]
    if not hmac.compare_digest(mac, _mac(key, digest, body)):
        raise InvalidValueError("is not one that this list has given", "cursor")
    if digest != _sort_digest(resource, order):
        raise InvalidValueError("belongs to another list or another sort; start again without it", "cursor")
    try:
        return _read(body, len(order))
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        raise InvalidValueError("is not one that this list has given", "cursor") from None


def _mac(key: bytes, digest: bytes, body: bytes) -> bytes:
    return hmac.digest(key or b"fastapi_sqlalchemy.cursor", digest + body, "sha256")[:_MAC]


def _sort_digest(resource: Resource, order: Sequence[SortKey]) -> bytes:
    parts = [f"{key.field.name}\x00{int(key.descending)}{int(key.nulls_last)}" for key in order]
    return hashlib.blake2b("\x01".join([resource.name, *parts]).encode(), digest_size=_SORT).digest()


def _read(body: bytes, width: int) -> Cursor:
    version, backward, position, ties, packed = json.loads(body)
    if version != _VERSION or backward not in (0, 1) or not _is_count(position) or not _is_count(ties):
        raise ValueError("head")
    if packed is None:
        return Cursor(None, bool(backward), position)
    if not is_list(packed) or len(packed) > width:
        raise ValueError("values")
    return Cursor(tuple(_unpacked(item) for item in packed), bool(backward), position, ties)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _packed(value: Any) -> Any:
    """The JSON form of a raw value: itself, or its kind and text."""
    if value is None or isinstance(value, (bool, int)) or type(value) is str:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return ["f", repr(float(value))]
    if isinstance(value, Decimal):
        return ["d", format(value, "f")]
    if isinstance(value, bytes):
        return ["b", base64.b64encode(value).decode()]
    if isinstance(value, dt.datetime):
        return ["t", value.isoformat()]
    if isinstance(value, dt.date):
        return ["D", value.isoformat()]
    if isinstance(value, dt.time):
        return ["T", value.isoformat()]
    if isinstance(value, dt.timedelta):
        return ["i", str(value // dt.timedelta(microseconds=1))]
    if isinstance(value, uuid.UUID):
        return ["u", value.hex]
    return str(value)


def _unpacked(item: Any) -> Any:
    if is_list(item):
        tag, text = item
        return _FORMS[tag](text)
    if isinstance(item, str):
        return item.encode().decode()
    if item is None or isinstance(item, bool):
        return item
    if type(item) is int and _INTEGERS[0] <= item <= _INTEGERS[1]:
        return item
    raise ValueError("form")


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise ValueError(text)
    value = float(text)
    if math.isinf(value) != text.endswith("inf"):
        raise ValueError(text)
    return value


def _decimal(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(text)
    return Decimal(text)


def _interval(text: str) -> dt.timedelta:
    if len(text) > 20:
        raise ValueError(text)
    return dt.timedelta(microseconds=int(text))


_FORMS: dict[str, Callable[[str], Any]] = {
    "f": _float,
    "d": _decimal,
    "b": lambda text: base64.b64decode(text, validate=True),
    "t": dt.datetime.fromisoformat,
    "D": dt.date.fromisoformat,
    "T": dt.time.fromisoformat,
    "i": _interval,
    "u": lambda text: uuid.UUID(hex=text),
}
