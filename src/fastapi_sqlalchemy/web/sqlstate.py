"""What a database error means to a client, told from SQLSTATE, errno or result code, never from the message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Final

from sqlalchemy import exc as sa_exc
from sqlalchemy.orm.exc import StaleDataError

from ..engines.liveness import ran_out_of_time
from ..exceptions import DatabaseUnavailableError, PoolQueueFullError, RequestTimeoutError

__all__ = ["Cause", "cause_of", "driver_error", "driver_name", "ran_out_of_time"]


@dataclass(frozen=True, slots=True)
class Cause:
    """One class of database error: its code, its HTTP status and a sentence for the client."""

    code: str
    status: int
    detail: str


UNIQUE: Final = Cause("unique_violation", 409, "A row with the same unique value exists already.")
FOREIGN_KEY: Final = Cause(
    "foreign_key_violation", 409, "The row refers to a row that does not exist, or other rows still refer to it."
)
EXCLUSION: Final = Cause("exclusion_violation", 409, "The row overlaps with a row that exists already.")
INTEGRITY: Final = Cause("integrity_violation", 409, "The change breaks a rule of the database.")
NOT_NULL: Final = Cause("not_null_violation", 422, "A value that is required is missing.")
CHECK: Final = Cause("check_violation", 422, "A value breaks a rule of the database.")
TOO_LONG: Final = Cause("validation_error", 422, "A value is too long for its column.")
OUT_OF_RANGE: Final = Cause("validation_error", 422, "A number is out of the range of its column.")
INVALID: Final = Cause("validation_error", 422, "A value is not valid for its column.")
CONFLICT: Final = Cause("conflict", 409, "The request collided with another transaction. Send it again.")
STALE: Final = Cause("conflict", 409, "The row was changed or deleted in the meantime. Read it again, then repeat.")
UNAVAILABLE: Final = Cause(
    "database_unavailable", 503, "The database cannot be reached at the moment. Try again later."
)
FULL: Final = Cause("database_unavailable", 503, "The database has no room, or no number, for another row.")
TIMEOUT: Final = Cause("timeout", 503, "The database did not answer in time. Try again later.")
DEADLINE: Final = Cause("timeout", 503, "The request took longer than it may. Try again later.")

# PostgreSQL manual, appendix A "PostgreSQL Error Codes"; the classes of two letters are those of the SQL standard.
_SQLSTATES: Final[dict[str, Cause]] = {
    "23505": UNIQUE,
    "23503": FOREIGN_KEY,
    "23001": FOREIGN_KEY,
    "23502": NOT_NULL,
    "23514": CHECK,
    "44000": CHECK,
    "45000": CHECK,
    "P0001": CHECK,
    "23P01": EXCLUSION,
    "22001": TOO_LONG,
    "22026": TOO_LONG,
    "22003": OUT_OF_RANGE,
    "22008": OUT_OF_RANGE,
    "22015": OUT_OF_RANGE,
    "2200H": FULL,
    "2201W": OUT_OF_RANGE,
    "2201X": OUT_OF_RANGE,
    "22000": INVALID,
    "22007": INVALID,
    "22018": INVALID,
    "2201B": INVALID,
    "22021": INVALID,
    "22023": INVALID,
    "22030": INVALID,
    "22032": INVALID,
    "22P02": INVALID,
    "22P03": INVALID,
    "22P05": INVALID,
    "25006": UNAVAILABLE,
    "25P03": TIMEOUT,
    "25P04": TIMEOUT,
    "3D000": UNAVAILABLE,
    "40003": UNAVAILABLE,
    "53100": FULL,
    "55P03": TIMEOUT,
    "57014": TIMEOUT,
    "57P01": UNAVAILABLE,
    "57P02": UNAVAILABLE,
    "57P03": UNAVAILABLE,
    "57P04": UNAVAILABLE,
    "57P05": UNAVAILABLE,
    "72000": CONFLICT,
    "HYT00": TIMEOUT,
    "HYT01": TIMEOUT,
}
_SQLSTATE_CLASSES: Final[dict[str, Cause]] = {
    "08": UNAVAILABLE,
    "23": INTEGRITY,
    "28": UNAVAILABLE,
    "40": CONFLICT,
    "53": UNAVAILABLE,
    "58": UNAVAILABLE,
}

# MariaDB and MySQL manuals, "Error Codes"; the client's own numbers start at 2000, 0 is a connection closed here.
# Those below 1000 are of the storage engine: 135 no room in a file, 167 no number left (MariaDB's perror).
_MYSQL_NUMBERS: Final[dict[Cause, tuple[int, ...]]] = {
    UNIQUE: (1022, 1062, 1169, 1557, 1586, 1761, 1762),
    FOREIGN_KEY: (1216, 1217, 1451, 1452),
    NOT_NULL: (1048, 1138, 1263, 1364),
    CHECK: (1369, 1644, 3819, 4025),
    TOO_LONG: (1153, 1406),
    OUT_OF_RANGE: (1264, 1441, 1690),
    INVALID: (1139, 1265, 1292, 1300, 1366, 1367, 1411, 1416, 1525, 3140, 3141, 3988),
    CONFLICT: (1020, 1213, 3101),
    TIMEOUT: (1205, 1317, 1969, 3024, 3572),
    FULL: (135, 167, 1021, 1114, 1467, 4084),
    UNAVAILABLE: (
        *(0, 1037, 1040, 1041, 1043, 1044, 1045, 1047, 1049, 1053, 1077, 1079, 1080, 1129, 1130, 1152),
        *(1158, 1159, 1160, 1161, 1180, 1184, 1189, 1190, 1203, 1226, 1290, 1698, 1792, 1836, 1927, 3169, 4031),
        *(2002, 2003, 2004, 2005, 2006, 2012, 2013, 2026, 2027, 2055, 4095),
    ),
}
_MYSQL: Final = {number: cause for cause, numbers in _MYSQL_NUMBERS.items() for number in numbers}
_MYSQL_DRIVERS: Final = frozenset({"pymysql", "asyncmy", "aiomysql", "MySQLdb", "mysql", "mariadb", "cymysql"})

# https://www.sqlite.org/rescode.html; an extended code keeps the primary one in its low byte.
_SQLITE: Final[dict[int, Cause]] = {
    2067: UNIQUE,
    1555: UNIQUE,
    2579: UNIQUE,
    787: FOREIGN_KEY,
    1299: NOT_NULL,
    275: CHECK,
    1811: CHECK,
    3091: INVALID,
    517: CONFLICT,
    19: INTEGRITY,
    18: TOO_LONG,
    20: INVALID,
    6: CONFLICT,
    5: TIMEOUT,
    9: TIMEOUT,
    7: UNAVAILABLE,
    10: UNAVAILABLE,
    13: FULL,
    14: UNAVAILABLE,
    15: UNAVAILABLE,
}

_DRIVERS: Final = frozenset({"sqlite3", "aiosqlite", "psycopg", "psycopg_binary", "psycopg_c", "psycopg2", "asyncpg"})
_BELOW_SQLALCHEMY: Final = (
    _DRIVERS
    | _MYSQL_DRIVERS
    | {"asyncio", "uvloop", "socket", "ssl", "select", "selectors", "threading", "concurrent", "contextlib", "codecs"}
    | {"encodings", "fastapi_sqlalchemy", "greenlet"}
)


def driver_error(exc: BaseException) -> BaseException:
    """The exception of the driver inside the one that SQLAlchemy raised, or the exception itself."""
    if isinstance(exc, sa_exc.StatementError) and exc.orig is not None:
        return exc.orig
    return exc


def driver_name(error: BaseException) -> str:
    """The top-level module of an exception's class: ``psycopg``, ``sqlite3``, ``pymysql``, ..."""
    return type(error).__module__.partition(".")[0]


def cause_of(exc: BaseException) -> Cause | None:
    """Classify an exception; None for one that is no database error or that a request could not have caused."""
    if isinstance(exc, PoolQueueFullError):
        return UNAVAILABLE
    if isinstance(exc, RequestTimeoutError):
        return DEADLINE
    if isinstance(exc, sa_exc.TimeoutError):
        return TIMEOUT
    if isinstance(exc, (DatabaseUnavailableError, sa_exc.DisconnectionError)):
        return UNAVAILABLE
    if isinstance(exc, StaleDataError):
        return STALE
    error = driver_error(exc)
    if isinstance(exc, sa_exc.SQLAlchemyError) and error is exc:
        return None
    cause = _by_number(error) or _by_class(exc, error)
    return TIMEOUT if cause is UNAVAILABLE and ran_out_of_time(error) else cause


def _by_number(error: BaseException) -> Cause | None:
    result_code = getattr(error, "sqlite_errorcode", None)
    if isinstance(result_code, int):
        return _SQLITE.get(result_code) or _SQLITE.get(result_code & 0xFF)
    first = error.args[0] if error.args else None
    if driver_name(error) in _MYSQL_DRIVERS:
        return _MYSQL.get(first) if isinstance(first, int) else None
    for state in (getattr(error, "sqlstate", None), getattr(error, "pgcode", None), first):
        if isinstance(state, str) and len(state) == 5 and state.isalnum():
            return _SQLSTATES.get(state) or _SQLSTATE_CLASSES.get(state[:2])
    return None


def _by_class(exc: BaseException, error: BaseException) -> Cause | None:
    """For errors without a number: those of the client library, and those of the operating system."""
    if isinstance(exc, sa_exc.DBAPIError):
        if exc.connection_invalidated:
            return UNAVAILABLE
        if getattr(error, "sqlstate", None) is not None or hasattr(error, "sqlite_errorcode"):
            return None
        if isinstance(exc, sa_exc.OperationalError) and driver_name(error) in ("psycopg", "psycopg2"):
            return UNAVAILABLE  # libpq names no SQLSTATE when it has no server to talk to
        if isinstance(exc, sa_exc.DataError):
            return INVALID
        if isinstance(exc, sa_exc.IntegrityError):
            return INTEGRITY
        return None
    if isinstance(error, (OSError, OverflowError, UnicodeEncodeError)):
        if error is exc and not _came_through_sqlalchemy(exc):
            return None
        if isinstance(error, OSError):
            return UNAVAILABLE
        return OUT_OF_RANGE if isinstance(error, OverflowError) else INVALID
    return None


def _came_through_sqlalchemy(exc: BaseException) -> bool:
    """Whether the raising driver was called by SQLAlchemy, so that an OSError is not one of another service."""
    for frame in reversed(list(_frames(exc.__traceback__))):
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("sqlalchemy.util") or module.partition(".")[0] in _BELOW_SQLALCHEMY:
            continue
        return module.startswith("sqlalchemy.")
    return False


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
