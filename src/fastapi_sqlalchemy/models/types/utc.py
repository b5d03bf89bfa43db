"""Points in time: aware in, aware in UTC out, whatever the database keeps."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, cast

from sqlalchemy import DateTime, Dialect, Interval, TypeDecorator
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine

__all__ = ["UTCDateTime", "utc_now", "utc_timestamp"]

_KEEPS_OFFSET: Final = frozenset({"postgresql", "cockroachdb", "mssql"})


class UTCDateTime(TypeDecorator[dt.datetime]):
    """A datetime that always has a time zone: any zone in, UTC out, to the microsecond.

    PostgreSQL keeps a TIMESTAMP WITH TIME ZONE, MariaDB and MySQL a DATETIME(6), SQLite a text; the last two in UTC.

    Raises ValueError for a naive datetime and TypeError for anything else (in SQLAlchemy's StatementError).
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            from sqlalchemy.dialects import mysql

            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        if dialect.name == "mssql":
            from sqlalchemy.dialects import mssql

            return dialect.type_descriptor(cast("Any", mssql).DATETIMEOFFSET(6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name in _KEEPS_OFFSET))

    def process_bind_param(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if not isinstance(value, dt.datetime):
            raise TypeError(f"A datetime with a time zone is needed, not a {type(value).__name__}.")
        if value.utcoffset() is None:
            raise ValueError(
                "A datetime without a time zone does not say which moment it means. Give it one: "
                "datetime.now(timezone.utc), or value.replace(tzinfo=...)."
            )
        moment = value.astimezone(dt.UTC)
        return moment if dialect.name in _KEEPS_OFFSET else moment.replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        moment: dt.datetime = value
        return moment.replace(tzinfo=dt.UTC) if moment.utcoffset() is None else moment.astimezone(dt.UTC)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """``column + timedelta(days=1)`` is arithmetic on an interval."""
        return Interval() if isinstance(value, dt.timedelta) else self


def utc_now() -> dt.datetime:
    """The current moment, aware, in UTC."""
    return dt.datetime.now(dt.UTC)


class utc_timestamp(FunctionElement[dt.datetime]):  # noqa: N801  # an SQL function, spelled as SQLAlchemy does
    """The current moment by the database's clock, as `UTCDateTime` keeps it; for ``server_default=`` too."""

    type = UTCDateTime()
    inherit_cache = True


@compiles(utc_timestamp)
def _standard(_element: utc_timestamp, _compiler: Any, **_options: Any) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(utc_timestamp, "sqlite")
def _sqlite(_element: utc_timestamp, _compiler: Any, **_options: Any) -> str:
    # six digits, as SQLAlchemy writes them, so that texts compare as the moments do; %f has three
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


@compiles(utc_timestamp, "mysql", "mariadb")
def _mysql(_element: utc_timestamp, _compiler: Any, **_options: Any) -> str:
    return "(UTC_TIMESTAMP(6))"


@compiles(utc_timestamp, "mssql")
def _mssql(_element: utc_timestamp, _compiler: Any, **_options: Any) -> str:
    return "SYSDATETIMEOFFSET()"


@compiles(utc_timestamp, "oracle")
def _oracle(_element: utc_timestamp, _compiler: Any, **_options: Any) -> str:
    return "SYS_EXTRACT_UTC(SYSTIMESTAMP)"
