"""The type that a reflected column is served with.

Nothing that is stored may fail to be served: a type that SQLAlchemy does not know is read as text by a cast, and a
value of SQLite that is not of its column's type goes out as it is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from ..narrowing import is_array
from .moments import MomentForm, form_of, number_of

__all__ = ["INCOMPARABLE", "MOMENTS", "AsText", "GeometryAsText", "served_type"]

Type = sa.types.TypeEngine[Any]
_Processor = Callable[[Any], Any] | None

_PLAIN: tuple[type[Any], ...] = (
    *(sa.Enum, sa.Boolean, sa.Uuid, sa.JSON, sa.Integer, sa.Numeric, sa.Float, sa.DateTime, sa.Date, sa.Time),
    *(sa.Interval, postgresql.INTERVAL, sa.LargeBinary, sa.BINARY, sa.VARBINARY, sa.String, mysql.SET),
    *(mysql.TINYBLOB, mysql.MEDIUMBLOB, mysql.LONGBLOB),
)
_IN_ARRAYS = (sa.Enum, sa.Boolean, sa.Uuid, sa.Integer, sa.Numeric, sa.Float, sa.String, sa.JSON)
MOMENTS = (sa.DateTime, sa.Date, sa.Time)
_NUMERIC_NAMES = frozenset({"NUMERIC", "DECIMAL", "DEC", "NUMBER", "MONEY", "SMALLMONEY", "CURRENCY", "FIXED"})


class AsText(sa.types.UserDefinedType[str]):
    """A column of a type that has no Python form, read as the text that the database makes of it."""

    cache_ok = True

    @property
    def python_type(self) -> type[str]:
        """Text."""
        return str

    def get_col_spec(self, **_kw: Any) -> str:
        """The name of the type in DDL."""
        return "TEXT"

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Select the column as text."""
        return sa.cast(colexpr, sa.Text)


class TextArray(postgresql.ARRAY[str]):
    """An array of PostgreSQL whose items have no Python form that holds them all, read as an array of text."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, stored: Type | None = None) -> None:
        super().__init__(sa.Text())
        self.stored = stored

    def adapt(self, cls: type[Any], **kw: Any) -> Any:
        """Stay what this is; a dialect would put its own type in the place, which selects no text."""
        return TextArray(self.stored)

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> sa.ColumnElement[Any] | None:
        """Store the items as what they are."""
        return None if self.stored is None else sa.cast(bindvalue, postgresql.ARRAY(self.stored))

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Select the items as text."""
        return sa.cast(colexpr, postgresql.ARRAY(sa.Text()))


class GeometryAsText(AsText):
    """A geometry of MySQL or MariaDB, read as well-known text."""

    cache_ok = True

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Select the column as well-known text."""
        return sa.func.st_astext(colexpr, type_=sa.Text())


class BitNumber(sa.types.TypeDecorator[int]):
    """A BIT column of MySQL or MariaDB, read as a number."""

    impl = mysql.BIGINT(unsigned=True)
    cache_ok = True

    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Select the column as a number."""
        return column.op("+")(sa.literal_column("0"))


class WideTime(mysql.TIME):
    """A TIME of MySQL or MariaDB: a time of day, or the text of one that is negative or longer than a day."""

    def adapt(self, cls: type[Any], **kw: Any) -> Any:
        """Stay what this is; a dialect would put its own type in the place, which cuts at a day."""
        return WideTime(fsp=self.fsp)

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        """Read what the driver has as a length of time."""

        def read(value: Any) -> Any:
            if not isinstance(value, dt.timedelta):
                return value
            if dt.timedelta() <= value < dt.timedelta(days=1):
                return (dt.datetime(1, 1, 1) + value).time()  # noqa: DTZ001  # a clock without a zone
            seconds, rest = divmod(abs(value), dt.timedelta(seconds=1))
            sign = "-" if value < dt.timedelta() else ""
            text = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            return f"{text}.{rest.microseconds:06}" if rest else text

        return read


INCOMPARABLE = (BitNumber, GeometryAsText)
"""Types of columns that neither a filter nor a sort can name: what is read is not what is stored."""


_DEFAULT_FORM = MomentForm()
_DAY_ALONE = MomentForm(fraction=0, bare=True)


class _Loose:
    """SQLite keeps any value in any column (https://www.sqlite.org/flexible.html): one that cannot be read stays."""

    def adapt(self, cls: type[Any], **kw: Any) -> Any:
        """Stay what this is; a dialect would put its own strict type in the place."""
        return super().adapt(type(self), **kw)  # type: ignore[misc]

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        parent: Any = super()
        read_value: Callable[[Any], Any] | None = parent.result_processor(dialect, coltype)
        if read_value is None:
            return None

        def read(value: Any) -> Any:
            try:
                return read_value(value)
            except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
                return value

        return read


class LooseDate(_Loose, sqlite.DATE):
    """A date, or what is there instead."""


class _Moment(_Loose):
    """Text in the form that the column's rows have."""

    def __init__(self, form: MomentForm = _DEFAULT_FORM, timezone: bool = False) -> None:
        super().__init__(timezone=timezone)  # type: ignore[call-arg]
        self.form = form

    def adapt(self, cls: type[Any], **kw: Any) -> Any:
        """Stay what this is; a dialect would put its own type in the place, which has a form of its own."""
        return type(self)(self.form, getattr(self, "timezone", False))

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        """Write the text of a moment."""
        form = self.form

        def write(value: dt.datetime | dt.time | None) -> str | None:
            return None if value is None else form.write(value)

        return write


class LooseTime(_Moment, sqlite.TIME):
    """A time, or what is there instead."""


class LooseDateTime(_Moment, sqlite.DATETIME):
    """A date and time, or what is there instead."""


class LooseJSON(_Loose, sqlite.JSON):
    """JSON, or the text that is none."""


class LooseBoolean(sa.Boolean):
    """True for 1 and False for 0, or what is there instead."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        """Read 0 and 1 only."""

        def read(value: Any) -> Any:
            return bool(value) if type(value) is int and value in (0, 1) else value

        return read


class LooseBinary(sa.LargeBinary):
    """Bytes, or what is there instead."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> None:
        """Take what the driver gives."""


class LooseNumeric(sa.Numeric[Decimal]):
    """A decimal with the digits that are stored, and zeros up to the scale; or what is there instead."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        """Read numbers; nothing is rounded."""
        scale = self.scale or 0
        unit = Decimal(1).scaleb(-scale)

        def read(value: Any) -> Any:
            if type(value) not in (int, float):
                return value
            number = Decimal(repr(value))
            if scale and number.is_finite() and -int(number.as_tuple().exponent) < scale and number.adjusted() < 20:
                return number.quantize(unit)
            return number

        return read


def served_type(
    type_: Type, dialect: str, declared: str | None = None, *, key: bool = False, stored: Sequence[Any] = ()
) -> Type:
    """Return the type that a column is served with.

    ``dialect`` is the name of SQLAlchemy's; ``declared`` the name of the type as the database has it, where it was
    asked for (SQLite, and the geometries of MariaDB); ``key`` whether the column is part of the primary key; ``stored``
    are values of a column of SQLite that is declared as a moment.
    """
    if dialect == "sqlite":
        return _sqlite(type_, declared, key=key, stored=stored)
    if dialect in ("mysql", "mariadb"):
        return _mysql(type_, declared)
    if isinstance(type_, postgresql.DOMAIN):
        inner = served_type(type_.data_type, dialect)
        return AsText() if isinstance(inner, sa.Enum) else inner  # no operator compares a domain of choices
    if type(type_) is sa.String:  # "char" and name, which are not quite text
        return AsText()
    if is_array(type_):
        item_type: Any = type_.item_type
        item = served_type(item_type, dialect)
        if isinstance(item_type, postgresql.DOMAIN):  # the driver does not know an array of a domain
            return TextArray(item_type)
        return postgresql.ARRAY(item) if isinstance(item, _IN_ARRAYS) else TextArray(item_type)
    return type_ if isinstance(type_, _PLAIN) else AsText()


def _made(kind: Any) -> Type:
    made: Type = kind()
    return made


def _sqlite_moment(type_: Type, stored: Sequence[Any]) -> Type:
    """What the rows hold decides: a number may be seconds, days or anything, and is served as it is."""
    number = number_of(stored)
    if number is not None:
        return sa.BigInteger() if number is int else sa.Double()
    form = form_of(stored)
    if isinstance(type_, sa.Time):
        return LooseTime(form if form is not None and not form.suffix else _DEFAULT_FORM)
    if isinstance(type_, sa.Date) and (form is None or form == _DAY_ALONE):
        return _made(LooseDate)
    form = form or _DEFAULT_FORM
    return LooseDateTime(form, timezone=bool(form.suffix))


def _sqlite(type_: Type, declared: str | None, *, key: bool, stored: Sequence[Any]) -> Type:
    if isinstance(type_, sa.Boolean):
        return LooseBoolean()
    if isinstance(type_, sa.Integer):
        return sa.BigInteger()  # any integer of SQLite has 64 bits
    if isinstance(type_, sa.JSON):
        return LooseJSON()
    if isinstance(type_, MOMENTS):
        return _sqlite_moment(type_, stored)
    if isinstance(type_, (sa.Float, sa.Double)):
        return sa.Double()
    if isinstance(type_, sa.Numeric):
        name = (declared or "NUMERIC").upper().partition("(")[0].strip()
        # a name that SQLite does not know has numeric affinity too, and says nothing about the values
        return LooseNumeric(type_.precision, type_.scale) if name in _NUMERIC_NAMES else sa.types.NullType()
    if isinstance(type_, (sa.LargeBinary, sa.BINARY, sa.VARBINARY)):
        return LooseBinary()
    if isinstance(type_, sa.String):
        return sa.Text() if key else sa.String(type_.length)  # the length is not enforced: no row may be out of reach
    return sa.types.NullType()


def _mysql(type_: Type, declared: str | None) -> Type:
    if declared is not None:
        return GeometryAsText()
    if isinstance(type_, (mysql.DOUBLE, mysql.FLOAT, mysql.REAL)):
        type_.asdecimal = False
        return type_
    if isinstance(type_, mysql.YEAR):
        # of two digits it is sorted from 1970 to 2069, and compared from 0 to 99
        return AsText() if type_.display_width == 2 else mysql.SMALLINT(unsigned=True)
    if isinstance(type_, mysql.TIME):
        return WideTime(fsp=type_.fsp)
    if isinstance(type_, mysql.BIT):
        return BitNumber()
    return type_ if isinstance(type_, _PLAIN) else AsText()
