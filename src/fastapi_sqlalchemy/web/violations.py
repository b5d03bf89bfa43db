"""Which constraint and which columns a database error is about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import CheckConstraint, Column, Constraint, Index, MetaData, PrimaryKeyConstraint, Table
from sqlalchemy import exc as sa_exc
from sqlalchemy.schema import ColumnCollectionConstraint, UniqueConstraint

from .sqlstate import EXCLUSION, FOREIGN_KEY, UNIQUE, Cause, driver_error

__all__ = ["Violation", "violation_of"]


class Violation(NamedTuple):
    """The name of the broken constraint, the table it belongs to, and the columns concerned; parts may be unknown."""

    constraint: str | None = None
    fields: tuple[str, ...] = ()
    table: str | None = None
    schema: str | None = None


_STATEMENT_TABLE: Final = re.compile(
    r"\s*(?:INSERT\s+(?:OR\s+\w+\s+|IGNORE\s+)?INTO|REPLACE\s+INTO|UPDATE|DELETE\s+FROM)\s+([`\"\w.$]+)", re.IGNORECASE
)
_BACKTICKED: Final = re.compile(r"`((?:[^`]|``)*)`")
_MYSQL_FOREIGN_KEY: Final = re.compile(
    r"`(?P<table>[^`]*)`, CONSTRAINT `(?P<name>[^`]*)` "
    r"FOREIGN KEY \((?P<own>[^)]*)\) REFERENCES [^(]*\((?P<other>[^)]*)\)"
)
_QUOTED: Final = r"(?:'([^']*)'|(?:`[^`]*`\.)*`([^`]*)`)"
_MYSQL_COLUMN: Final = re.compile(
    rf"(?:for column {_QUOTED} at row \d+|[Cc]olumn {_QUOTED} cannot be null"
    rf"|Field {_QUOTED} doesn't have a default value)$"
)
_MYSQL_CHECK: Final = re.compile(r"CONSTRAINT `([^`]*)` failed for (?:`[^`]*`\.)?`([^`]*)`|[Cc]onstraint '([^']*)'")
_NAME: Final = re.compile(r'"[^"]*"|\w+(?=\s*(?:[,=]|$))')
_WRITTEN: Final = re.compile(
    r'\s*(?:INSERT\s+INTO\s+(?P<into>[\w."]+)\s*\((?P<columns>[^)]*)\)'
    r'|UPDATE\s+(?P<updated>[\w."]+)\s+SET\s+(?P<assigned>[^?]*\?(?:\s*,[^?]*\?)*))',
    re.IGNORECASE,
)
_SQLITE_NAMES: Final = re.compile(r"(?:UNIQUE|NOT NULL) constraint failed: (.*)", re.DOTALL)
_SQLITE_CHECK: Final = re.compile(r"CHECK constraint failed: (\w+)$")


def violation_of(exc: BaseException, cause: Cause, metadata: Iterable[MetaData] = ()) -> Violation:
    """Find the constraint and the columns that an error is about; no value of the request is ever in the result.

    PostgreSQL's drivers give the names as attributes. MariaDB, MySQL and SQLite give them only within the message.

    Args:
        exc: the exception.
        cause: its class, see `cause_of`.
        metadata: where to look up the columns of a constraint that is known by name, and the other way round.
    """
    error = driver_error(exc)
    first = error.args[0] if error.args else None
    if hasattr(error, "sqlite_errorcode"):
        found = _foreign_key(exc, metadata) if cause is FOREIGN_KEY else _from_sqlite(str(error))
    elif isinstance(first, int):
        found = _from_mysql(first, str(error.args[-1]), _statement_table(exc))
    elif getattr(error, "sqlstate", None):
        found = _from_postgresql(error, cause)
    else:
        return Violation()
    return _complete(found, list(metadata), nameless=cause is UNIQUE)


def _from_postgresql(error: BaseException, cause: Cause) -> Violation:
    source: Any = getattr(error, "diag", None) or error.__cause__ or error
    column = getattr(source, "column_name", None)
    detail = getattr(source, "message_detail", None) or getattr(source, "detail", None)
    fields: tuple[str, ...] = (column,) if column else ()
    if not fields and detail and cause in (UNIQUE, FOREIGN_KEY, EXCLUSION):
        fields = _key_columns(detail)
    return Violation(
        getattr(source, "constraint_name", None),
        fields,
        getattr(source, "table_name", None),
        getattr(source, "schema_name", None),
    )


def _key_columns(detail: str) -> tuple[str, ...]:
    """The columns in ``Key (a, b)=(1, 2) already exists.``, which reads alike in every language of the server."""
    names, found, _ = detail.partition(")=(")
    names = names.partition("(")[2]
    if not found or "(" in names:
        return ()
    return tuple(name.strip('"') for name in names.split(", "))


def _from_mysql(number: int, message: str, table: str | None) -> Violation:
    if foreign_key := _MYSQL_FOREIGN_KEY.search(message):
        # 1217 and 1451: the parent's key is still in use; 1216 and 1452: the child's key has no parent
        columns = foreign_key["other"] if number in (1217, 1451) else foreign_key["own"]
        return Violation(foreign_key["name"], tuple(_BACKTICKED.findall(columns)), foreign_key["table"])
    if number in (1062, 1169, 1586):
        key = message.rpartition(" '")[2].rstrip("'")
        return Violation(key.rpartition(".")[2] or None, (), table)
    if number in (3819, 4025) and (check := _MYSQL_CHECK.search(message)):
        name = check[1] or check[3]
        owner, _, column = name.rpartition(".")
        return Violation(None, (column,), owner) if owner else Violation(name, (), check[2] or table)
    column_named = _MYSQL_COLUMN.search(message)
    return Violation(None, tuple(filter(None, column_named.groups())) if column_named else (), table)


def _from_sqlite(message: str) -> Violation:
    if check := _SQLITE_CHECK.search(message):
        return Violation(check[1])
    names = _SQLITE_NAMES.search(message)
    if names is None:
        return Violation()
    if names[1].startswith("index '"):
        return Violation(names[1][len("index '") : -1])
    pairs = [name.rpartition(".") for name in names[1].split(", ")]
    return Violation(None, tuple(column for _, _, column in pairs), pairs[0][0])


def _foreign_key(exc: BaseException, metadata: Iterable[MetaData]) -> Violation:
    """SQLite does not tell which foreign key failed: the one that the statement has set, where it is the only one."""
    written = _WRITTEN.match(exc.statement or "") if isinstance(exc, sa_exc.StatementError) else None
    if written is None:
        return Violation()
    names = [found[0].strip('"') for found in _NAME.finditer(written["columns"] or written["assigned"])]
    given: object = getattr(exc, "params", None)
    values = dict(enumerate(cast("tuple[object, ...]", given))) if isinstance(given, tuple) else {}
    nulls = {name for place, name in enumerate(names) if values.get(place, name) is None}
    found = [
        Violation(constraint.name if isinstance(constraint.name, str) else None, columns, table.name)
        for each in metadata
        for table in each.tables.values()
        if table.name == (written["into"] or written["updated"]).rpartition(".")[2].strip('"')
        for constraint in table.foreign_key_constraints
        if (columns := tuple(constraint.column_keys)) and set(columns) <= set(names) - nulls
        if constraint.initially is None
    ]
    return found[0] if len(found) == 1 else Violation()


def _statement_table(exc: BaseException) -> str | None:
    statement = exc.statement if isinstance(exc, sa_exc.StatementError) else None
    match = _STATEMENT_TABLE.match(statement or "")
    return match[1].rpartition(".")[2].strip('`"') if match else None


def _complete(found: Violation, metadata: list[MetaData], *, nameless: bool) -> Violation:
    """Add the columns of a named constraint, or the name of the unique constraint over known columns (nameless)."""
    tables = [
        table
        for each in metadata
        for table in each.tables.values()
        if found.table in (None, "", table.name) and (found.schema is None or table.schema in (None, found.schema))
    ]
    for table in tables:
        for constraint in _constraints(table):
            columns = _columns(constraint, table)
            if found.constraint and _is_named(constraint, found.constraint, columns):
                name = constraint.name if isinstance(constraint.name, str) else found.constraint
                return found._replace(fields=found.fields or columns, constraint=name)
            if nameless and not found.constraint and columns == found.fields and _is_unique(constraint):
                return found._replace(constraint=constraint.name if isinstance(constraint.name, str) else None)
    return found


def _constraints(table: Table) -> Iterator[Constraint | Index]:
    yield from table.constraints
    yield from table.indexes


def _is_unique(constraint: Constraint | Index) -> bool:
    if isinstance(constraint, Index):
        return bool(constraint.unique)
    return isinstance(constraint, (UniqueConstraint, PrimaryKeyConstraint))


def _is_named(constraint: Constraint | Index, name: str, columns: tuple[str, ...]) -> bool:
    if isinstance(constraint.name, str):
        return constraint.name == name or (name == "PRIMARY" and isinstance(constraint, PrimaryKeyConstraint))
    if isinstance(constraint, PrimaryKeyConstraint):
        return name == "PRIMARY"
    # MariaDB and MySQL name an unnamed key after its first column, with _2, _3 and so on when that name is taken
    return _is_unique(constraint) and columns[:1] == (re.sub(r"_\d+$", "", name),)


def _columns(constraint: Constraint | Index, table: Table) -> tuple[str, ...]:
    if isinstance(constraint, CheckConstraint):
        words = set(re.findall(r"\w+", str(constraint.sqltext)))
        return tuple(column.name for column in table.columns if column.name in words)
    if isinstance(constraint, (ColumnCollectionConstraint, Index)):
        columns: Iterable[Column[Any]] = constraint.columns
        return tuple(column.name for column in columns)
    return ()
