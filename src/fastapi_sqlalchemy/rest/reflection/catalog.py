"""What a database holds: the names of its tables and views, and their structure, each on its own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects import mysql

from ..resource import REPEATED_KEY
from .types import MOMENTS, served_type

__all__ = ["Entry", "Kind", "list_entries", "probe", "read_tables"]

Kind = Literal["table", "view", "materialized view", "foreign table"]

_GEOMETRIES = (
    *("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"),
    *("geometrycollection", "geomcollection"),
)

_SAMPLE = 100  # rows

# the key of a table does not hold for the rows of its children (PostgreSQL manual, 5.11.1, "Caveats")
_INHERITED = (
    "SELECT DISTINCT n.nspname, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One table or view of a database; ``schema`` is None in the default one."""

    name: str
    kind: Kind
    schema: str | None = None

    @property
    def label(self) -> str:
        """The name that a path and a person use: with its schema outside of the default one."""
        return self.name if self.schema is None else f"{self.schema}.{self.name}"

    @property
    def is_view(self) -> bool:
        """Whether it is made by a query."""
        return self.kind in ("view", "materialized view")


def list_entries(connection: sa.Connection, schema: str | None) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Return the tables and views of a schema by name, and those that are left out with the reason."""
    inspector = sa.inspect(connection)
    dialect = connection.dialect.name
    kinds: dict[str, Kind] = dict.fromkeys(inspector.get_table_names(schema), "table")
    kinds |= dict.fromkeys(inspector.get_view_names(schema), "view")
    left_out: list[tuple[str, str]] = []
    if dialect == "postgresql":
        kinds |= dict.fromkeys(inspector.get_materialized_view_names(schema), "materialized view")
        names: list[str] = getattr(inspector, "get_foreign_table_names")(schema)  # noqa: B009  # of one dialect only
        kinds |= dict.fromkeys(names, "foreign table")
    elif dialect in ("mysql", "mariadb"):
        kinds |= dict.fromkeys(_system_versioned(connection, schema), "table")
    elif dialect == "sqlite":
        shadows = [name for name in _shadow_tables(connection, schema) if kinds.pop(name, None) is not None]
        left_out += [(name, "it is the store of a virtual table") for name in shadows]
    left_out += [(name, "no path can have its name") for name in ("", ".", "..") if kinds.pop(name, None) is not None]
    entries = [Entry(name, kind, schema) for name, kind in kinds.items()]
    return sorted(entries, key=lambda item: item.name), left_out


def read_tables(
    connection: sa.Connection,
    entries: Iterable[Entry],
    metadata: sa.MetaData,
    progress: Callable[[str], None] | None = None,
) -> tuple[dict[Entry, sa.Table], dict[Entry, Exception]]:
    """Reflect the entries into ``metadata``; what fails does so alone.

    All at once first, in a few queries; one by one where something is in the way of that.
    """
    entries = list(entries)
    failed: dict[Entry, Exception] = {}
    if connection.dialect.name in ("mysql", "mariadb"):
        event.listen(metadata, "column_reflect", _unescape_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa_exc.SAWarning)  # types and expressions that SQLAlchemy does not know
        _read_together(connection, entries, metadata)
        for entry in entries:
            if _key(entry) not in metadata.tables:
                if progress is not None:
                    progress(entry.label)
                try:
                    _read(connection, entry, metadata)
                except Exception as error:  # whatever is wrong with it, the others are served
                    _forget(metadata, entry)
                    connection.rollback()
                    failed[entry] = error
    tables = {entry: metadata.tables[_key(entry)] for entry in entries if entry not in failed}
    for entry in [entry for entry, table in tables.items() if not table.columns]:
        failed[entry] = LookupError("it has no columns")
        metadata.remove(tables.pop(entry))
    for entry, table in tables.items():
        _forget_broken_keys(table)
        if entry.is_view:
            table.info["read_only"] = True
        _adapt(connection, table)
    if connection.dialect.name == "postgresql":
        for schema, name in connection.execute(sa.text(_INHERITED)):
            for entry, table in tables.items():
                if (entry.schema or connection.dialect.default_schema_name, entry.name) == (schema, name):
                    table.info[REPEATED_KEY] = True
    return tables, failed


def _forget_broken_keys(table: sa.Table) -> None:
    """SQLite takes a foreign key to a column that is not there."""
    for constraint in list(table.foreign_key_constraints):
        try:
            for element in constraint.elements:
                _ = element.column
        except sa_exc.NoReferencedColumnError:
            table.constraints.discard(constraint)
            for element in constraint.elements:
                element.parent.foreign_keys.discard(element)
        except sa_exc.NoReferencedTableError:
            pass  # it is not served


def _unescape_name(_inspector: Any, _table: sa.Table, column: Any) -> None:
    """SHOW CREATE TABLE doubles the backticks of a name, and SQLAlchemy leaves them so."""
    column["name"] = column["name"].replace("``", "`")


def probe(connection: sa.Connection, table: sa.Table) -> Exception | None:
    """Return why a table cannot be selected, or None; reads no row."""
    try:
        connection.execute(sa.select(*table.columns).limit(0)).close()
    except Exception as error:
        connection.rollback()
        return error
    return None


def _read_together(connection: sa.Connection, entries: list[Entry], metadata: sa.MetaData) -> None:
    by_schema: dict[str | None, list[str]] = {}
    for entry in entries:
        by_schema.setdefault(entry.schema, []).append(entry.name)
    for schema, names in by_schema.items():
        wanted = set(names)
        try:
            metadata.reflect(
                connection, schema, views=True, only=lambda name, _, wanted=wanted: name in wanted, resolve_fks=False
            )
        except Exception:  # told one by one
            connection.rollback()
            for entry in entries:
                _forget(metadata, entry)


def _read(connection: sa.Connection, entry: Entry, metadata: sa.MetaData) -> None:
    columns = [column["name"] for column in sa.inspect(connection).get_columns(entry.name, entry.schema)]
    named = [name for name in columns if name]  # SQLite takes the empty name, which no parameter can have
    only = named if len(named) < len(columns) else None
    sa.Table(
        entry.name, metadata, schema=entry.schema, autoload_with=connection, resolve_fks=False, include_columns=only
    )


def _forget(metadata: sa.MetaData, entry: Entry) -> None:
    table = metadata.tables.get(_key(entry))
    if table is not None:
        metadata.remove(table)


def _key(entry: Entry) -> str:
    return entry.label


def _adapt(connection: sa.Connection, table: sa.Table) -> None:
    """Give every column the type that it is served with."""
    dialect = connection.dialect.name
    declared: dict[str, str] = {}
    stored: dict[str, list[Any]] = {}
    if dialect == "sqlite":
        declared = _declared_types(connection, table)
        stored = _stored_moments(connection, table)
    elif dialect in ("mysql", "mariadb") and any(isinstance(column.type, sa.types.NullType) for column in table.c):
        declared = _geometries(connection, table)
    if dialect in ("mysql", "mariadb"):
        _set_row_times(connection, table)
        _set_json(connection, table)
    keys = set(table.primary_key.columns)
    if dialect == "sqlite" and len(keys) == 1:
        _set_row_id(connection, table, declared)
    for column in table.columns:
        column.type = served_type(
            column.type, dialect, declared.get(column.name), key=column in keys, stored=stored.get(column.name, ())
        )


def _declared_types(connection: sa.Connection, table: sa.Table) -> dict[str, str]:
    preparer = connection.dialect.identifier_preparer
    schema = "" if table.schema is None else f"{preparer.quote_identifier(table.schema)}."
    rows = connection.exec_driver_sql(f"PRAGMA {schema}table_xinfo({preparer.quote_identifier(table.name)})")
    return {row[1]: row[2] for row in rows}


def _stored_moments(connection: sa.Connection, table: sa.Table) -> dict[str, list[Any]]:
    """Values of the first rows in the columns that are declared as moments: SQLite stores them in several forms.

    A column without values has the form of the one that it refers to.
    """
    columns = [column for column in table.columns if isinstance(column.type, MOMENTS)]
    found = _first_values(connection, columns)
    for column in columns:
        for key in () if found.get(column.name) else column.foreign_keys:
            with suppress(sa_exc.NoReferenceError):
                found.update((column.name, values) for values in _first_values(connection, [key.column]).values())
    return found


def _first_values(connection: sa.Connection, columns: Sequence[sa.Column[Any]]) -> dict[str, list[Any]]:
    if not columns:
        return {}
    stored = [sa.type_coerce(column, sa.types.NullType()) for column in columns]
    try:
        rows = connection.execute(sa.select(*stored).limit(_SAMPLE)).all()
    except sa_exc.DBAPIError:  # a view that cannot be read, or bytes that are no text: told when it is read
        connection.rollback()
        return {}
    return {
        column.name: [value for row in rows if (value := row[place]) is not None]
        for place, column in enumerate(columns)
    }


def _set_row_id(connection: sa.Connection, table: sa.Table, declared: dict[str, str]) -> None:
    """Only an INTEGER PRIMARY KEY of a table with row ids numbers itself (https://www.sqlite.org/rowidtable.html)."""
    (key,) = table.primary_key.columns
    statement = sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
    sql = str(connection.execute(statement, {"name": table.name}).scalar() or "") if table.schema is None else ""
    has_row_id = not re.search(r"\bWITHOUT\s+ROWID\b[^)]*$", sql, re.IGNORECASE)
    if declared.get(key.name, "").upper() == "INTEGER" or not has_row_id:
        key.nullable = False  # any other key of a table with row ids may hold NULL
    if declared.get(key.name, "").upper() != "INTEGER" or not has_row_id:
        key.autoincrement = False


def _geometries(connection: sa.Connection, table: sa.Table) -> dict[str, str]:
    statement = sa.text(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"
    )
    rows = connection.execute(statement, {"schema": table.schema, "name": table.name})
    return {row[0]: row[1] for row in rows if str(row[1]).lower() in _GEOMETRIES}


def _set_row_times(connection: sa.Connection, table: sa.Table) -> None:
    """MariaDB: when a row of a system-versioned table began and ends is the server's to say, and no part of a key."""
    statement = sa.text(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = COALESCE(:schema, DATABASE())"
        " AND table_name = :name AND generation_expression IN ('ROW START', 'ROW END')"
    )
    times = list(connection.execute(statement, {"schema": table.schema, "name": table.name}).scalars())
    for name in times:
        table.c[name].server_default = sa.FetchedValue()
    if any(name in table.primary_key.columns for name in times):
        kept = [column for column in table.primary_key.columns if column.name not in times]
        for name in times:
            table.c[name].primary_key = False
        table.append_constraint(sa.PrimaryKeyConstraint(*kept))


def _set_json(connection: sa.Connection, table: sa.Table) -> None:
    """JSON of MariaDB is LONGTEXT with a CHECK of json_valid (https://mariadb.com/kb/en/json-data-type/)."""
    if not any(isinstance(column.type, mysql.LONGTEXT) for column in table.columns):
        return
    statement = sa.text(
        "SELECT check_clause FROM information_schema.check_constraints"
        " WHERE constraint_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"
    )
    try:
        clauses = set(connection.execute(statement, {"schema": table.schema, "name": table.name}).scalars())
    except sa_exc.DBAPIError:  # MySQL has a type for it, and no such column
        return
    for column in table.columns:
        if isinstance(column.type, mysql.LONGTEXT) and f"json_valid({_quoted(column.name)})" in clauses:
            column.type = mysql.JSON()


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _system_versioned(connection: sa.Connection, schema: str | None) -> list[str]:
    statement = sa.text(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_type = 'SYSTEM VERSIONED'"
    )
    return list(connection.execute(statement, {"schema": schema}).scalars())


def _shadow_tables(connection: sa.Connection, schema: str | None) -> list[str]:
    """The tables behind virtual ones, such as those of full-text search (https://www.sqlite.org/vtab.html, 2.20)."""
    try:
        rows: Any = connection.exec_driver_sql("PRAGMA table_list").mappings().all()
    except sa_exc.DBAPIError:  # SQLite before 3.37 does not know
        connection.rollback()
        return []
    return [row["name"] for row in rows if row["type"] == "shadow" and row["schema"] == (schema or "main")]
