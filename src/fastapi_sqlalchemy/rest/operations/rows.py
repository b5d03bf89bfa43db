"""Fetching rows as tuples of public values, whatever a raw statement may have left in the table."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import Session

from ..etag import etag_fields, tag_of
from ..fields import Field
from ..hooks import Hooks
from ..ownership import Ownership
from ..resource import Resource

__all__ = [
    "Row",
    "Shape",
    "Target",
    "UnreadableRowError",
    "connected_dialect",
    "dialect_of",
    "execute",
    "fetch",
    "key_criteria",
]

Row = tuple[Any, ...]

_UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
_INTERVAL = re.compile(
    r"(?:([-+]?\d+) years? ?)?(?:([-+]?\d+) mons? ?)?(?:([-+]?\d+) days? ?)?(?:([-+]?)(\d+):(\d\d):(\d\d(?:\.\d+)?))?",
    re.ASCII,
)
_AS_TEXT = (dt.datetime, dt.date, dt.time, dt.timedelta)


class UnreadableRowError(Exception):
    """A statement gave back a stored value that the driver cannot read; the change is to be made without RETURNING."""


@dataclass(slots=True)
class Target:
    """What an operation works on: a resource, as its caller may see it.

    ``cautious`` changes rows without RETURNING: some stored value cannot be read as its column's type. ``references``
    are the foreign keys of a change that point at rows with owners (see ``references_to``).
    """

    resource: Resource
    ownership: Ownership
    hooks: Hooks
    loop: Any = None
    cautious: bool = False
    references: Sequence[Any] = ()

    def call(self, hook: str, *arguments: Any) -> Any:
        """Call a hook where there is one."""
        return self.hooks.call(self.loop, hook, *arguments)

    @property
    def visible(self) -> tuple[sa.ColumnElement[bool], ...]:
        """The criteria of a row that the caller may see, on the resource's own table."""
        return self.ownership.criteria(self.resource.source())


@dataclass(frozen=True, eq=False)
class Shape:
    """The whole row of a resource: its readable fields, and after them those that only the ETag needs."""

    resource: Resource
    fields: tuple[Field, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = dict.fromkeys((*self.resource.readable, *etag_fields(self.resource)))
        object.__setattr__(self, "fields", tuple(self.resource.fields[name] for name in names))

    @classmethod
    def of(cls, resource: Resource) -> Shape:
        """Return the shape of a resource, made once."""
        found: Shape | None = resource.made.get(cls)
        if found is None:
            found = resource.made[cls] = cls(resource)
        return found

    @cached_property
    def by_key(self) -> sa.Select[Any]:
        """The statement that reads one row by its key: ``key_0``, ``key_1``. What always holds is part of it."""
        source = self.resource.source()
        key = [
            item.column == sa.bindparam(f"key_{number}", type_=item.sql_type)
            for number, item in enumerate(self.resource.key)
        ]
        return sa.select(*self.columns).select_from(source.selectable).where(*key, *source.criteria)

    @property
    def readable(self) -> tuple[Field, ...]:
        """The fields that may leave."""
        return self.fields[: len(self.resource.readable)]

    @property
    def columns(self) -> list[sa.ColumnElement[Any]]:
        """The columns to select or return."""
        return [item.column for item in self.fields]

    def as_dict(self, row: Row) -> dict[str, Any]:
        """Return the values of a row by field name."""
        return {item.name: value for item, value in zip(self.fields, row, strict=True)}

    def etag(self, row: Row) -> str:
        """Return the ETag of a row of this shape."""
        places, floats = self._tagged
        values = [row[place] for place in places]
        for place in floats:
            if isinstance(values[place], int):
                values[place] = float(values[place])
        return tag_of(values)

    @cached_property
    def _tagged(self) -> tuple[list[int], list[int]]:
        """Where in a row the values of the ETag stand, and which of these are floats."""
        places = {item.name: place for place, item in enumerate(self.fields)}
        names = etag_fields(self.resource)
        floats = [number for number, name in enumerate(names) if self.resource.fields[name].python_type is float]
        return [places[name] for name in names], floats

    def key(self, row: Row) -> Row:
        """Return the key of a row of this shape."""
        by_name = self.as_dict(row)
        return tuple(by_name[item.name] for item in self.resource.key)


def dialect_of(session: Session) -> Any:
    """Return the dialect that the session speaks."""
    return session.get_bind().dialect


def connected_dialect(session: Session) -> Any:
    """Return the dialect of the session's connection: until the first one, it does not know what its server can do."""
    return session.connection().dialect


def key_criteria(resource: Resource, key: Sequence[Any]) -> list[sa.ColumnElement[bool]]:
    """Return the criteria of one row."""
    return [item.column == value for item, value in zip(resource.key, key, strict=True)]


def fetch(
    session: Session, statement: sa.Select[Any], fields: Sequence[Field], parameters: Mapping[str, Any] | None = None
) -> list[Row]:
    """Return the rows of a statement whose columns are those of ``fields``, more columns may follow.

    A stored value that the column's type cannot read (text in a date of SQLite, ``infinity``, bytes that are not
    UTF-8) is fetched again as text and goes out as it is.
    """
    try:
        return execute(session, statement, parameters)
    except UnreadableRowError:
        return _fetch_raw(session, statement, fields, parameters)


def execute(session: Session, statement: Any, parameters: Any = None) -> list[Row]:
    """Return the rows of a statement; raises :class:`UnreadableRowError` for a value that cannot be read."""
    try:
        return [tuple(row) for row in session.execute(statement, parameters)]
    except _UNREADABLE as error:
        raise UnreadableRowError from error
    except (sa_exc.DataError, sa_exc.OperationalError, sa_exc.InterfaceError) as error:
        if not _is_client_side(error):
            raise
        raise UnreadableRowError from error


def _is_client_side(error: sa_exc.DBAPIError) -> bool:
    """Whether the driver could not read a value, rather than the server refuse the statement."""
    driver: Any = error.orig
    code = getattr(driver, "sqlstate", None) or getattr(driver, "sqlite_errorcode", None)
    numbered = bool(driver.args) and isinstance(driver.args[0], int)
    return code is None and not numbered


def _fetch_raw(
    session: Session, statement: sa.Select[Any], fields: Sequence[Field], parameters: Mapping[str, Any] | None
) -> list[Row]:
    if dialect_of(session).name == "sqlite":
        return _fetch_stored(session, statement, fields, parameters)
    columns = list(statement.selected_columns)
    kinds: list[Callable[[Any], Any]] = []
    raw: list[sa.ColumnElement[Any]] = []
    for number, column in enumerate(columns):
        item = fields[number] if number < len(fields) else None
        kind: type[Any] = object if item is None else item.python_type
        if kind in _AS_TEXT or (item is not None and isinstance(item.sql_type, (sa.JSON, sa.Enum))):
            raw.append(
                sa.cast(column, sa.Text if dialect_of(session).name == "postgresql" else sa.String).label(f"c{number}")
            )
            kinds.append(_reader(kind))
        else:
            raw.append(column.label(f"c{number}"))
            kinds.append(_same)
    rows = session.execute(statement.with_only_columns(*raw, maintain_column_froms=True), parameters)
    return [tuple(read(value) for read, value in zip(kinds, row, strict=True)) for row in rows]


def _fetch_stored(
    session: Session, statement: sa.Select[Any], fields: Sequence[Field], parameters: Mapping[str, Any] | None
) -> list[Row]:
    """SQLite: each value by its own storage class; text as bytes, for it may be no UTF-8."""
    dialect = dialect_of(session)
    raw: list[sa.ColumnElement[Any]] = []
    readers: list[Callable[[bool, Any], Any]] = []
    for number, column in enumerate(statement.selected_columns):
        stored = sa.type_coerce(column.element if isinstance(column, sa.Label) else column, sa.types.NullType())
        is_text = sa.func.typeof(stored) == sa.literal_column("'text'")
        value = sa.case((is_text, sa.cast(stored, sa.LargeBinary)), else_=stored)
        raw += [is_text.label(f"t{number}"), sa.type_coerce(value, sa.types.NullType()).label(f"c{number}")]
        readers.append(_stored_reader(fields[number] if number < len(fields) else None, dialect))
    rows = session.execute(statement.with_only_columns(*raw, maintain_column_froms=True), parameters)
    return [tuple(read(*row[2 * n : 2 * n + 2]) for n, read in enumerate(readers)) for row in rows]


def _stored_reader(item: Field | None, dialect: Any) -> Callable[[bool, Any], Any]:
    process = None if item is None else item.sql_type.dialect_impl(dialect).result_processor(dialect, None)

    def read(is_text: bool, value: Any) -> Any:
        found = value.decode("utf-8", "replace") if is_text else value
        if process is None:
            return found
        try:
            return process(found)
        except _UNREADABLE:
            return found

    return read


def _same(value: Any) -> Any:
    return value


def _reader(kind: type[Any]) -> Callable[[Any], Any]:
    parsers: dict[type[Any], Callable[[str], Any]] = {
        int: int,
        float: float,
        bool: _boolean,
        Decimal: Decimal,
        dict: json.loads,
        list: json.loads,
        uuid.UUID: uuid.UUID,
        dt.datetime: dt.datetime.fromisoformat,
        dt.date: dt.date.fromisoformat,
        dt.time: dt.time.fromisoformat,
        dt.timedelta: _interval,
    }
    parse = parsers.get(kind)

    def read(value: Any) -> Any:
        if value is None or kind is bytes:
            return value
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if parse is None or not isinstance(text, str):
            return text
        try:
            return parse(text)
        except _UNREADABLE:
            return text

    return read


def _interval(text: str) -> dt.timedelta:
    """Read an interval of PostgreSQL as its driver does: a month has 30 days, a year 365."""
    found = _INTERVAL.fullmatch(text)
    if not text or found is None:
        raise ValueError(text)
    years, months, days, sign, hours, minutes, seconds = found.groups(default="0")
    clock = dt.timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    return dt.timedelta(int(years) * 365 + int(months) * 30 + int(days)) + (-clock if sign == "-" else clock)


def _boolean(text: str) -> bool:
    return bool(int(text))
