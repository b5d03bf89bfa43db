"""Kinds of columns, as a query sees them, and the operators that each kind has."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from ..fields import Field

__all__ = [
    "OPERATORS",
    "PATTERNS",
    "Kind",
    "base_type",
    "is_searchable",
    "is_sortable",
    "is_typeless",
    "kind_of",
    "operators_of",
]


class Kind(enum.Enum):
    """How the values of a column are read, compared and ordered."""

    TEXT = "text"
    INTEGER = "an integer"
    FLOAT = "a number"
    DECIMAL = "a decimal number"
    BOOLEAN = "true or false"
    DATE = "a date"
    TIME = "a time"
    DATETIME = "a date and time"
    INTERVAL = "a duration"
    UUID = "a UUID"
    ENUM = "a choice"
    BYTES = "base64"
    JSON = "JSON"
    OPAQUE = "text of a type that has no Python form"
    INCOMPARABLE = "a value that cannot be compared"


_EQUALITY = ("eq", "ne", "in", "not_in")
_RANGE = ("gt", "gte", "lt", "lte", "between")
PATTERNS = ("like", "ilike", "contains", "icontains", "startswith", "endswith")
"""Operators that take a pattern or a part of a text."""

_BY_KIND: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT: (*_EQUALITY, *_RANGE, *PATTERNS, "isnull"),
    Kind.OPAQUE: (*_EQUALITY, *PATTERNS, "isnull"),
    **dict.fromkeys(
        (Kind.INTEGER, Kind.FLOAT, Kind.DECIMAL, Kind.DATE, Kind.TIME, Kind.DATETIME, Kind.INTERVAL),
        (*_EQUALITY, *_RANGE, "isnull"),
    ),
    **dict.fromkeys((Kind.BOOLEAN, Kind.UUID, Kind.ENUM, Kind.BYTES), (*_EQUALITY, "isnull")),
    **dict.fromkeys((Kind.JSON, Kind.INCOMPARABLE), ("isnull",)),
}

OPERATORS = _BY_KIND[Kind.TEXT]
"""Every operator that a parameter name may end with."""

_TYPES: tuple[tuple[type[Any] | tuple[type[Any], ...], Kind], ...] = (
    (sa.PickleType, Kind.INCOMPARABLE),
    (sa.Enum, Kind.ENUM),
    (sa.Boolean, Kind.BOOLEAN),
    (sa.Uuid, Kind.UUID),
    (sa.JSON, Kind.JSON),
    (sa.ARRAY, Kind.INCOMPARABLE),
    (sa.Integer, Kind.INTEGER),
    ((sa.Float, sa.Double), Kind.FLOAT),
    (sa.Numeric, Kind.DECIMAL),
    (sa.DateTime, Kind.DATETIME),
    (sa.Date, Kind.DATE),
    (sa.Time, Kind.TIME),
    (sa.Interval, Kind.INTERVAL),
    ((sa.LargeBinary, sa.BINARY, sa.VARBINARY), Kind.BYTES),
    (mysql.SET, Kind.OPAQUE),
    (sa.String, Kind.TEXT),
)


_known: WeakKeyDictionary[Field, Kind] = WeakKeyDictionary()


def kind_of(field: Field) -> Kind:
    """Return the kind of a field: by its SQL type, under any ``TypeDecorator``."""
    found = _known.get(field)
    if found is None:
        found = _known[field] = _kind_of_type(field.sql_type)
    return found


def _kind_of_type(sql_type: sa.types.TypeEngine[Any]) -> Kind:
    for types, kind in _TYPES:
        if isinstance(sql_type, types):
            return kind
    if isinstance(sql_type, sa.types.TypeDecorator):
        return _kind_of_type(sql_type.impl_instance)
    if _python_type(sql_type) is dt.timedelta:
        return Kind.INTERVAL
    if _python_type(sql_type) is bytes:  # such as LONGBLOB, which is no LargeBinary
        return Kind.BYTES
    return Kind.OPAQUE


def base_type(field: Field) -> sa.types.TypeEngine[Any]:
    """Return the SQL type of a field without its ``TypeDecorator``; an Interval stays one."""
    found = field.sql_type
    while isinstance(found, sa.types.TypeDecorator) and not isinstance(found, sa.Interval):
        found = found.impl_instance
    return found


def _python_type(sql_type: sa.types.TypeEngine[Any]) -> type[Any] | None:
    try:
        return sql_type.python_type
    except NotImplementedError:
        return None


def is_typeless(field: Field) -> bool:
    """Whether the column has no type, as an expression in a view of SQLite: each of its values has its own."""
    return isinstance(field.sql_type, sa.types.NullType)


def operators_of(field: Field) -> tuple[str, ...]:
    """Return the operators that a filter on the field may use."""
    return OPERATORS if is_typeless(field) else _BY_KIND[kind_of(field)]


def is_sortable(field: Field) -> bool:
    """Whether a list may be sorted by the field."""
    return field.filterable and kind_of(field) not in (Kind.JSON, Kind.INCOMPARABLE)


def is_searchable(field: Field) -> bool:
    """Whether ``q=`` looks into the field."""
    return field.filterable and field.readable and kind_of(field) is Kind.TEXT
