"""How the values of a column are read from a file and written to one, by the column's type."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Self, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..exceptions import ConfigurationError
from ..models.types import UTCDateTime
from ..rest.narrowing import is_array, is_binary, is_items
from ..rest.reflection.types import AsText, LooseBoolean, LooseDate, LooseDateTime, LooseTime
from ..rest.serialize import duration

__all__ = ["ExactFloat", "Field", "fields_of", "shadow"]

Type = sa.types.TypeEngine[Any]
Convert = Callable[[Any], Any]

_TRUE = frozenset({"true", "t", "1", "yes", "y", "on"})
_FALSE = frozenset({"false", "f", "0", "no", "n", "off"})
_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d{1,6})?)S)?)?"
)


class ExactFloat(float):
    """A number of a JSON text that keeps its digits, for columns that hold decimals."""

    __slots__ = ("text",)

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a file and of a table.

    ``type`` is what the column is read and written as; ``from_text`` and ``to_text`` convert a cell of a CSV,
    ``from_json`` and ``to_json`` a value of JSON, each None where nothing is to be done. ``is_text`` says that a
    spreadsheet could take a value for a formula; ``empty`` is what an empty cell stands for.
    """

    name: str
    type: Type
    from_text: Convert | None
    from_json: Convert | None
    to_text: Convert | None
    to_json: Convert | None
    is_text: bool
    empty: str | None


def fields_of(table: sa.Table, dialect: sa.Dialect, names: Sequence[str] | None = None) -> list[Field]:
    """The fields of a table's columns, or of those named, in that order; generated columns are left out.

    Raises `ConfigurationError` for a name that is no column, that is generated or that is given twice.
    """
    columns = {column.name: column for column in table.columns}
    if names is None:
        return [_field(column, dialect) for column in columns.values() if column.computed is None]
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise ConfigurationError(
            f"The table {table.name} has no column {', '.join(map(repr, unknown))}; it has {', '.join(columns)}."
        )
    generated = [name for name in names if columns[name].computed is not None]
    if generated:
        raise ConfigurationError(f"The database computes {', '.join(map(repr, generated))} itself; leave it out.")
    if len(set(names)) < len(names):
        raise ConfigurationError("A column is named twice.")
    return [_field(columns[name], dialect) for name in names]


def shadow(table: sa.Table, fields: Sequence[Field]) -> sa.TableClause:
    """The table with the columns of some fields, typed as these are."""
    columns = [sa.column(field.name, field.type) for field in fields]
    return sa.table(table.name, *columns, schema=table.schema)


class _JSONText(sa.types.UserDefinedType[str]):
    """A JSON column of PostgreSQL as text, so that its null differs from NULL."""

    cache_ok = True

    def __init__(self, binary: bool) -> None:
        self.binary = binary

    def get_col_spec(self, **_options: Any) -> str:
        return "TEXT"

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.cast(colexpr, sa.Text())

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        return sa.cast(bindvalue, postgresql.JSONB() if self.binary else postgresql.JSON())


def _storage(type_: Type, dialect: sa.Dialect) -> Type:
    """The type that the database holds; what a decorator makes of it (an object, a clear text) stays out of files."""
    while isinstance(type_, sa.TypeDecorator):
        if isinstance(type_, (UTCDateTime, sa.Interval)):
            return type_
        inner: Type = type_.load_dialect_impl(dialect)
        type_ = inner
    return type_.dialect_impl(dialect)


def _field(column: sa.Column[Any], dialect: sa.Dialect) -> Field:
    made: Type = _storage(column.type, dialect)
    type_, from_text, from_json, to_text, to_json = _codec(made, dialect)
    is_text = isinstance(type_, (sa.String, sa.types.NullType, AsText)) and to_json is not _json_load
    empty = "" if is_text and not column.nullable and not isinstance(type_, sa.Enum) else None
    return Field(column.name, type_, from_text, from_json, to_text, to_json, is_text, empty)


_Codec = tuple[Type, Convert | None, Convert | None, Convert | None, Convert | None]


def _codec(type_: Type, dialect: sa.Dialect) -> _Codec:  # one branch for every kind of type
    sqlite = dialect.name == "sqlite"
    if isinstance(type_, sa.Enum):
        return _enum(type_)
    if isinstance(type_, sa.Boolean):
        return (LooseBoolean() if sqlite else type_), _bool, _bool, _bool_text, None
    if isinstance(type_, sa.JSON):
        binary = isinstance(type_, postgresql.JSONB)
        stored = _JSONText(binary) if dialect.name == "postgresql" else sa.Text()
        return stored, _json_text, _json_dump, None, _json_load
    if isinstance(type_, sa.Integer):
        return type_, _int, _int, str, None
    if isinstance(type_, sa.Float) or (isinstance(type_, sa.Numeric) and not type_.asdecimal):
        return type_, float, _float, _float_text, _float_json
    if isinstance(type_, sa.Numeric):
        if sqlite:  # which keeps a float
            return sa.Float(), _decimal_float, _decimal_float, _float_text, _float_text
        return type_, _decimal, _decimal, _decimal_text, _decimal_text
    if isinstance(type_, (sa.DateTime, UTCDateTime)):
        return _moment(type_, dialect)
    if isinstance(type_, sa.Date):
        return (_made(LooseDate) if sqlite else type_), dt.date.fromisoformat, dt.date.fromisoformat, _iso, _iso
    if isinstance(type_, sa.Time):
        return (_made(LooseTime) if sqlite else type_), dt.time.fromisoformat, dt.time.fromisoformat, _iso, _iso
    if isinstance(type_, (sa.Interval, postgresql.INTERVAL)):
        return type_, _duration, _duration, duration, duration
    if isinstance(type_, sa.LargeBinary):
        return type_, _bytes, _bytes, _base64, _base64
    if isinstance(type_, sa.Uuid):
        made: Convert = uuid.UUID if type_.as_uuid else _uuid_text
        return type_, made, made, str, str
    if is_array(type_):
        return _array(type_, dialect)
    if isinstance(type_, sa.String):
        return type_, None, _str, None, None
    if dialect.name == "postgresql":
        return AsText(), None, _str, str, str
    return sa.types.NullType(), None, None, _any_text, _any_json


def _moment(type_: Type, dialect: sa.Dialect) -> _Codec:
    """Moments: an offset is kept where the column has one; without any, UTC is meant."""
    zone = isinstance(type_, UTCDateTime) or bool(getattr(type_, "timezone", False))
    keeps = isinstance(type_, UTCDateTime) or (zone and dialect.name in ("postgresql", "mssql", "oracle"))

    def read(text: str) -> dt.datetime:
        moment = dt.datetime.fromisoformat(text)
        if keeps:
            return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
        return moment if moment.tzinfo is None else moment.astimezone(dt.UTC).replace(tzinfo=None)

    def write(moment: Any) -> str:
        if zone and isinstance(moment, dt.datetime) and moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        return _iso(moment)

    loose = dialect.name == "sqlite" and not isinstance(type_, UTCDateTime)
    return (_made(LooseDateTime) if loose else type_), read, read, write, write


def _made(kind: Any) -> Type:
    return cast("Type", kind())


def _enum(type_: sa.Enum) -> _Codec:
    """The labels that the database holds."""
    labels: list[str] = list(type_.enums)
    members: dict[Any, str] = {label: label for label in labels}
    enum_class: Any = type_.enum_class
    if enum_class is not None:
        members |= dict(zip(enum_class.__members__.values(), labels, strict=False))
    allowed = set(labels)

    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"is none of {', '.join(labels)}")
        return str(value)

    def write(value: Any) -> str:
        return members[value]

    return type_, read, read, write, write


def _array(type_: sa.ARRAY[Any], dialect: sa.Dialect) -> _Codec:
    item, _, from_json, _, to_json = _codec(_storage(type_.item_type, dialect), dialect)

    def read(value: Any) -> Any:
        if is_items(value):
            return [read(one) for one in value]
        return value if value is None or from_json is None else from_json(value)

    def checked(value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("is no list")
        return read(value)

    def write(value: Any) -> Any:
        if is_items(value):
            return [write(one) for one in value]
        return value if value is None or to_json is None else to_json(value)

    def read_text(text: str) -> Any:
        return checked(json.loads(text, parse_float=ExactFloat))

    def write_text(value: Any) -> str:
        return json.dumps(write(value), ensure_ascii=False)

    return postgresql.ARRAY(item), read_text, checked, write_text, write


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("is neither true nor false")


def _bool_text(value: Any) -> str:
    return "true" if value is True or value == 1 else "false" if value is False or value == 0 else str(value)


def _int(value: Any) -> int:
    if isinstance(value, str):
        if "_" in value:
            raise ValueError("is no whole number")
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise ValueError("is no whole number")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("is no number")
    return float(value)


def _float_text(value: Any) -> str:
    return repr(float(value)) if isinstance(value, (int, float)) else str(value)


def _float_json(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("is no number")
    try:
        return Decimal(value.text if isinstance(value, ExactFloat) else str(value).strip())
    except InvalidOperation:
        raise ValueError("is no number") from None


def _decimal_float(value: Any) -> float:
    return float(_decimal(value))


def _decimal_text(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) and value.is_finite() else str(value)


def _iso(value: Any) -> str:
    return value.isoformat() if isinstance(value, (dt.date, dt.time)) else str(value)


def _duration(text: str) -> dt.timedelta:
    found = _DURATION.fullmatch(text)
    if found is None or text[-1] in "PT":
        raise ValueError("is no duration such as P1DT2H3.5S")
    sign, *numbers = found.groups()
    weeks, days, hours, minutes = (int(number or 0) for number in numbers[:4])
    microseconds = int(Decimal(numbers[4] or 0) * 1_000_000)
    value = dt.timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, microseconds=microseconds)
    return -value if sign == "-" else value


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError("is not base64") from None


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode("ascii") if is_binary(value) else str(value)


def _uuid_text(text: str) -> str:
    return str(uuid.UUID(text))


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text")
    return value


def _json_text(text: str) -> str:
    """Check a cell that holds JSON; it is stored as it is."""
    json.loads(text)
    return text


def _json_dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json_load(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else text


def _any_text(value: Any) -> str:
    return _base64(value) if is_binary(value) else str(value)


def _any_json(value: Any) -> Any:
    return _base64(value) if is_binary(value) else value if isinstance(value, (int, float)) else str(value)
