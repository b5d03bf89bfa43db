"""Order of a list and the place of a cursor in it (keyset pagination).

NULLs come last, in either direction, unless ``nullsfirst`` is asked for, on every database. Text is sorted by the
column's own collation, so that an index serves; choices are sorted by their text.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..fields import Field
from ..resource import Resource, Source
from .cursor import encode_cursor, total_order
from .errors import QueryError
from .expressions import Take, as_text
from .keyset import Step, rows_past
from .kinds import Kind, kind_of
from .operands import Family, family_of, is_single
from .tree import Cursor, SortKey

__all__ = ["Ordering", "Segment"]

Expression = sa.ColumnElement[Any]
Criterion = sa.ColumnElement[bool]

_PYTHON: dict[Kind, tuple[type[Any], ...]] = {
    Kind.TEXT: (str,),
    Kind.OPAQUE: (str,),
    Kind.ENUM: (str,),
    Kind.INTEGER: (int,),
    Kind.FLOAT: (float, int),
    Kind.DECIMAL: (Decimal, int),
    Kind.BOOLEAN: (bool,),
    Kind.DATE: (dt.date,),
    Kind.TIME: (dt.time,),
    Kind.DATETIME: (dt.datetime,),
    Kind.INTERVAL: (dt.timedelta,),
    Kind.UUID: (uuid.UUID, str),
    Kind.BYTES: (bytes,),
}
_MYSQL: dict[Kind, tuple[type[Any], ...]] = {
    **_PYTHON,
    Kind.BOOLEAN: (int, bool),
    Kind.TIME: (dt.timedelta, dt.time),
    Kind.INTERVAL: (dt.datetime, dt.timedelta),
    Kind.UUID: (str,),
    Kind.FLOAT: (float, int, Decimal),
    Kind.DATE: (dt.date, str),
    Kind.DATETIME: (dt.datetime, str),
}
_MYSQL_DATE = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d{1,6})?)?", re.ASCII)
"""A date with a month or a day of zero, which MySQL's drivers give as text."""
# Months have no length of their own: an interval as the driver counts it does not sort where it stands.
# So do infinity and years before Christ, which Python has no date for.
_AS_TEXT = (Kind.INTERVAL, Kind.DATE, Kind.TIME, Kind.DATETIME)
_POSTGRESQL: dict[Kind, tuple[type[Any], ...]] = {**_PYTHON, **dict.fromkeys(_AS_TEXT, (str,))}
_CLOCK = r"\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[+-]\d\d(?::\d\d){0,2})?"
_DAY = r"\d{4,7}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TEXT_FORMS: dict[Kind, re.Pattern[str]] = {
    Kind.DATE: re.compile(rf"-?infinity|{_DAY}(?: BC)?", re.ASCII),
    Kind.DATETIME: re.compile(rf"-?infinity|{_DAY} {_CLOCK}(?: BC)?", re.ASCII),
    Kind.TIME: re.compile(_CLOCK, re.ASCII),
    Kind.INTERVAL: re.compile(
        r"(?=.)(?:[+-]?\d{1,9} years? ?)?(?:[+-]?\d{1,9} mons? ?)?(?:[+-]?\d{1,9} days? ?)?"
        r"(?:[+-]?\d{2,10}:\d\d:\d\d(?:\.\d{1,6})?)?",
        re.ASCII,
    ),
}
"""What PostgreSQL writes for these types in its ISO style."""
_CURSOR_TYPES: dict[Kind, sa.types.TypeEngine[Any]] = {
    Kind.TEXT: sa.Text(),
    Kind.OPAQUE: sa.Text(),
    Kind.ENUM: sa.Text(),
    Kind.INTEGER: sa.BigInteger(),
    Kind.FLOAT: sa.Double(),
    Kind.DECIMAL: sa.Numeric(),
    Kind.BOOLEAN: sa.Boolean(),
    Kind.DATE: sa.Date(),
    Kind.INTERVAL: sa.Interval(),
    Kind.UUID: sa.Uuid(),
    Kind.BYTES: sa.LargeBinary(),
}
_MAX_SELECTED = 1660
"""PostgreSQL selects at most 1664 columns (its manual, appendix K), SQLite 2000."""
_RAW = sa.types.NullType()
_AS_THEY_ARE = (Kind.INTEGER, Kind.TEXT)


class Segment(NamedTuple):
    """A part of a list: its criteria and its ORDER BY."""

    criteria: list[Criterion]
    order_by: list[Expression]


class Ordering:
    """A total order over the rows of a resource: the sort that was asked for, then the key.

    Without a key the order is by the sort and then by every column that can be sorted. Rows that are equal in all of
    these are told apart by counting: a cursor holds how many of them are behind it.
    """

    def __init__(
        self, resource: Resource, sort: Sequence[SortKey], dialect: sa.Dialect, *, source: Source | None = None
    ) -> None:
        self.resource = resource
        self.source = source or resource.source()
        self.family: Family = family_of(dialect)
        self.keys = total_order(resource, sort)
        self.is_total = resource.has_unique_key and not any(self._is_nullable(item) for item in resource.key)

    @property
    def has_cursors(self) -> bool:
        """Whether pages can be found by cursor: its values are selected beside the columns, and all must have room."""
        return 0 < len(self.keys) <= _MAX_SELECTED - len(self.resource.fields)

    def order_by(self, *, backward: bool = False, count: int | None = None) -> list[Expression]:
        """Return the ORDER BY; ``backward`` reads towards the start, ``count`` takes so many columns only."""
        keys = self.keys[:count]
        return [part for key in keys for part in self._ordered(key, backward, self._is_nullable(key.field))]

    def _ordered(self, key: SortKey, backward: bool, nullable: bool) -> list[Expression]:
        expression = self._expression(key.field)
        descending, nulls_last = key.descending != backward, key.nulls_last != backward
        ordered = expression.desc() if descending else expression.asc()
        if not nullable or nulls_last is _native_nulls_last(self.family, descending):
            return [ordered]
        if self.family == "mysql":
            empty = expression.is_(sa.null())
            return [empty.asc() if nulls_last else empty.desc(), ordered]
        return [ordered.nulls_last() if nulls_last else ordered.nulls_first()]

    def columns(self) -> list[Expression]:
        """Return what a statement selects, after its own columns, so that cursors can be made of its rows.

        They are the values of the order's columns as the database has them, without conversion.
        """
        return [self._raw(key.field).label(f"cursor_{number}_") for number, key in enumerate(self.keys, 1)]

    def values_of(self, fields: Sequence[Field]) -> tuple[int, ...] | None:
        """Return where in rows of ``fields`` the values of a cursor stand, or None where :meth:`columns` is needed."""
        places = {item.name: place for place, item in enumerate(fields)}
        found = [
            places.get(key.field.name) if _is_raw(key.field) and kind_of(key.field) in _AS_THEY_ARE else None
            for key in self.keys
        ]
        places_found = tuple(place for place in found if place is not None)
        return places_found if len(places_found) == len(found) else None

    def encode(self, cursor: Cursor, key: bytes = b"") -> str | None:
        """Return a cursor as text, or None where it would be too long for a URL."""
        return encode_cursor(self.resource, self.keys, cursor, key)

    def criteria(self, cursor: Cursor | None, take: Take | None = None) -> list[Criterion]:
        """Return the criteria of the rows past a cursor, to be joined by AND. Raises :class:`QueryError`.

        ``take`` gives the parameters of the values that are not NULL, in the order of the keys.
        """
        if cursor is None or cursor.values is None:
            return []
        values = self.checked(cursor)
        return self._past(self._steps(cursor, values, take or _literals(values)), cursor)

    def _past(self, steps: Sequence[Step], cursor: Cursor) -> list[Criterion]:
        inclusive = cursor.ties > 0
        if not steps:
            return [] if inclusive else [sa.false()]
        return rows_past(steps, self.family, inclusive=inclusive)

    def behind(self, start: Cursor, passed: Sequence[tuple[Any, ...]], following: Sequence[Any] | None) -> Cursor:
        """Return the place behind rows with these values that came after ``start``.

        ``following`` are the values of the next row. Without a key, the columns up to the one in which it certainly
        differs say enough: the others may come out of a view in another form each time.
        """
        last = passed[-1]
        if self.is_total:
            return Cursor(last)
        if following is not None:
            for number, (value, next_value) in enumerate(zip(last, following, strict=True), 1):
                if _certainly_differ(value, next_value):
                    return Cursor(last[:number])
        return start.after(reversed(passed))

    def _steps(self, cursor: Cursor, values: Sequence[Any], take: Take) -> list[Step]:
        return [
            Step(
                self._expression(key.field),
                None if value is None else self._bound(key.field, take),
                descending=key.descending != cursor.backward,
                nulls_last=key.nulls_last != cursor.backward,
                nullable=self._is_nullable(key.field),
            )
            for key, value in zip(self.keys, values, strict=False)
        ]

    def segments(self, cursor: Cursor | None, take: Callable[[], Take] | None = None, *, whole: bool) -> list[Segment]:
        """Return the rows past a cursor as parts that follow each other, each in the form that an index serves.

        NULLs of the first column stand apart from its values: no index is searched for both at once. ``take`` makes
        the source of parameters of one part; None puts the cursor's values there. ``whole`` keeps the start of the list
        in one part where it can be.
        """
        backward = cursor is not None and cursor.backward
        if not self.keys:
            return [Segment([], [])]
        lead, *others = self.keys
        known = None if cursor is None or cursor.values is None else self.checked(cursor)
        nulls_last = lead.nulls_last != backward
        native = _native_nulls_last(self.family, lead.descending != backward)
        together = known is None and (whole or nulls_last is native or self.family == "sqlite")
        if not self._is_nullable(lead.field) or together:
            return [Segment(self.criteria(cursor, take and take()), self.order_by(backward=backward))]
        expression = self._expression(lead.field)
        rest = [part for key in others for part in self._ordered(key, backward, self._is_nullable(key.field))]
        full = Segment([expression.is_not(sa.null())], [*self._ordered(lead, backward, False), *rest])
        empty = Segment([expression.is_(sa.null())], rest)
        if cursor is None or known is None:
            return [full, empty] if nulls_last else [empty, full]
        first, *following = self._steps(cursor, known, take() if take else _literals(known))
        if known[0] is None:
            here = Segment([*empty.criteria, *self._past(following, cursor)], rest)
            return [here] if nulls_last else [here, full]
        first.nullable = False
        here = Segment(self._past([first, *following], cursor), full.order_by)
        return [here, empty] if nulls_last else [here]

    def checked(self, cursor: Cursor) -> tuple[Any, ...]:
        """Return the values of a cursor; those that this database cannot have given raise :class:`QueryError`."""
        values = cursor.values or ()
        if not 0 < len(values) <= len(self.keys) or (self.is_total and len(values) < len(self.keys)):
            raise _forged()
        for key, value in zip(self.keys, values, strict=False):
            self._check(key.field, value)
        return values

    def _is_nullable(self, field: Field) -> bool:
        """By the column, not the key: SQLite keeps NULL in keys that are not its row id."""
        if not field.primary_key:
            return bool(getattr(field.column, "nullable", True))
        return self.family == "sqlite" and bool(getattr(field.column, "nullable", True))

    def _expression(self, field: Field) -> Expression:
        column = self.source.column(field)
        kind = kind_of(field)
        if self.family == "sqlite":
            return sa.type_coerce(column, _RAW)
        if kind is Kind.OPAQUE:
            return as_text(column, field, self.family)
        if kind is Kind.ENUM:
            return sa.cast(column, sa.CHAR if self.family == "mysql" else sa.Text)
        return sa.type_coerce(column, _RAW) if self.family == "mysql" else column

    def _raw(self, field: Field) -> Expression:
        expression = self._expression(field)
        if is_single(field, self.family):
            return sa.cast(expression, sa.Double)
        if self._is_text_form(field):
            return sa.cast(expression, sa.Text)
        return sa.type_coerce(expression, _RAW)

    def _check(self, field: Field, value: Any) -> None:
        if value is None:
            return
        if self.family == "sqlite":
            if not isinstance(value, (int, float, str, bytes)) or not _is_storable(value):
                raise _forged()
            return
        kind = kind_of(field)
        allowed = {"mysql": _MYSQL, "postgresql": _POSTGRESQL}.get(self.family, _PYTHON)[kind]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise _forged()
        if isinstance(value, dt.datetime) and dt.datetime not in allowed:
            raise _forged()
        if isinstance(value, str) and "\x00" in value:
            raise _forged()
        if self._is_text_form(field) and not _TEXT_FORMS[kind].fullmatch(str(value)):
            raise _forged()
        if self.family == "mysql":
            if isinstance(value, str) and kind in (Kind.DATE, Kind.DATETIME) and not _MYSQL_DATE.fullmatch(value):
                raise _forged()
            if isinstance(value, (float, Decimal)) and not math.isfinite(value):
                raise _forged()
            return
        if not _is_storable(value) or (kind is Kind.UUID and isinstance(value, str)):
            raise _forged()
        if isinstance(value, (dt.datetime, dt.time)) and (value.tzinfo is not None) != field.timezone:
            raise _forged()

    def _is_text_form(self, field: Field) -> bool:
        return self.family == "postgresql" and kind_of(field) in _AS_TEXT

    def _bound(self, field: Field, take: Take) -> Expression:
        if self._is_text_form(field):
            return sa.cast(take(sa.Text()), self._bound_type(field))
        return take(self._bound_type(field))

    def _bound_type(self, field: Field) -> sa.types.TypeEngine[Any]:
        if self.family in ("sqlite", "mysql"):
            return _RAW
        kind = kind_of(field)
        if kind is Kind.DATETIME:
            return sa.DateTime(timezone=field.timezone)
        return sa.Time(timezone=field.timezone) if kind is Kind.TIME else _CURSOR_TYPES[kind]


def _native_nulls_last(family: Family, descending: bool) -> bool | None:
    """Where NULLs go when nothing is said; None where that is not known."""
    if family == "postgresql":
        return not descending
    return descending if family in ("sqlite", "mysql") else None


def _is_raw(field: Field) -> bool:
    return not isinstance(field.sql_type, sa.types.TypeDecorator)


def _is_storable(value: Any) -> bool:
    """Whether an integer has at most 64 bits; other values have no such bound."""
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _literals(values: Sequence[Any]) -> Take:
    following = (value for value in values if value is not None)

    def take(sql_type: sa.types.TypeEngine[Any], *, expanding: bool = False) -> sa.BindParameter[Any]:
        return sa.bindparam(None, next(following), type_=sql_type, expanding=expanding, unique=True)

    return take


def _certainly_differ(one: Any, other: Any) -> bool:
    """Whether two values differ for every database and collation, which may make no difference of case or accents."""
    if isinstance(one, str) and isinstance(other, str):
        if not (one.isascii() and other.isascii()):
            return False
        return [char for char in one.casefold() if char.isalnum()] != [
            char for char in other.casefold() if char.isalnum()
        ]
    return bool(one != other) and not (one != one and other != other)  # NaN is one value here


def _forged() -> QueryError:
    return QueryError.of("cursor", "cursor is not one that this list has given", "cursor")
