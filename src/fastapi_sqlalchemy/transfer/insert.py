"""Converted rows into a table: by COPY where psycopg speaks to PostgreSQL, else by one executemany for each batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from ..exceptions import BadRowError
from .columns import Field, fields_of
from .formats import unescape_formula
from .readers import Record

__all__ = ["Batch", "Inserter", "Mode", "Writer"]

_REFUSED = (ValueError, TypeError, AttributeError, OverflowError, ArithmeticError, RecursionError)


Mode = Literal["csv", "raw", "json"]
"""Where the values of records come from: a CSV, one whose apostrophes are left alone, or JSON."""


class Writer:
    """Inserts records that have the same columns.

    Columns that a record lacks get their Python default, as a model's would; the database fills in what is left.
    """

    def __init__(self, table: sa.Table, dialect: sa.Dialect, names: tuple[str, ...], mode: Mode) -> None:
        self.fields = fields_of(table, dialect, names)
        self.converters = [_converter(field, mode) for field in self.fields]
        self.columns = list(self.fields)
        self.defaults: list[Callable[[], Any]] = []
        computed: dict[str, Any] = {}
        for column in table.columns:
            default = column.default
            if column.name in names or default is None or default.is_sequence:
                continue
            if default.is_clause_element:
                computed[column.name] = getattr(default, "arg", None)
            else:
                self.defaults.append(_maker(default))
                self.columns.append(_as_it_is(column))
        self.uses_copy = dialect.name == "postgresql" and dialect.driver == "psycopg" and not computed
        quote = dialect.identifier_preparer
        listed = ", ".join(quote.quote(field.name) for field in self.columns)
        self.copy = f"COPY {quote.format_table(table)} ({listed}) FROM STDIN"
        self.parameters = [f"v{number}" for number in range(len(self.columns))]
        bound = {
            field.name: sa.bindparam(name, type_=field.type)
            for field, name in zip(self.columns, self.parameters, strict=True)
        }
        named: list[sa.ColumnClause[Any]] = [sa.column(name) for name in (*bound, *computed)]
        target = sa.table(table.name, *named, schema=table.schema)
        self.insert = sa.insert(target).values({**bound, **computed})
        compiled = self.insert.compile(dialect=dialect)
        # the driver is given tuples where the statement takes them in this order: half the time of SQLAlchemy's own way
        direct = compiled.positional and compiled.positiontup == self.parameters
        self.statement = str(compiled) if direct and not self.uses_copy else None
        self.processors = [
            field.type.dialect_impl(dialect).bind_processor(dialect) if direct or self.uses_copy else None
            for field in self.columns
        ]

    def convert(self, records: Sequence[Record]) -> list[tuple[Any, ...]]:
        """The values of the records as they are bound; raises `BadRowError` for the first that cannot be."""
        columns: list[Sequence[Any]] = []
        bad: list[tuple[int, Field, str]] = []
        given = zip(*(record[2] for record in records), strict=True)
        for field, (convert, empty), values in zip(self.fields, self.converters, given, strict=True):
            if convert is None and empty is None:
                columns.append(values)
                continue
            try:
                columns.append(_converted(values, convert, empty))
            except _REFUSED:
                bad.append(_first_bad(values, convert, field))
        if bad:
            at, field, reason = min(bad, key=lambda item: item[0])
            raise BadRowError(records[at][0], reason, column=field.name)
        columns += [[make() for _ in records] for make in self.defaults]
        for number, process in enumerate(self.processors):
            if process is not None:
                columns[number] = [process(value) for value in columns[number]]
        return list(zip(*columns, strict=True)) if columns else [() for _ in records]

    def plain(self, record: Record) -> list[Any]:
        """The values of one record as Python has them; raises `BadRowError`."""
        values: list[Any] = []
        for field, (convert, empty), value in zip(self.fields, self.converters, record[2], strict=True):
            try:
                values += _converted([value], convert, empty)
            except _REFUSED as error:
                raise BadRowError(record[0], f"{_shown(value)} {_reason(error, field)}", column=field.name) from None
        return values

    def write(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert converted rows in the connection's transaction."""
        if self.statement is not None:
            connection.exec_driver_sql(self.statement, list(rows))
            return
        if not self.uses_copy:
            names = self.parameters
            connection.execute(self.insert, [dict(zip(names, row, strict=True)) for row in rows])
            return
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(self.copy) as copy:
            write_row = copy.write_row
            for row in rows:
                write_row(row)


class Batch:
    """Records that are inserted together, converted; ``lines`` are where they start in the file."""

    def __init__(self, lines: list[int], items: list[tuple[Writer, list[tuple[Any, ...]]]]) -> None:
        self.lines = lines
        self.items = items

    def __len__(self) -> int:
        return len(self.lines)

    def write(self, connection: sa.Connection, count: int | None = None) -> None:
        """Insert all of the records, or the first ``count``."""
        left = len(self) if count is None else count
        for writer, rows in self.items:
            if left <= 0:
                break
            writer.write(connection, rows if left >= len(rows) else rows[:left])
            left -= len(rows)


class Inserter:
    """Converts records for one table."""

    def __init__(self, table: sa.Table, dialect: sa.Dialect, mode: Mode) -> None:
        self.table = table
        self.dialect = dialect
        self.mode: Mode = mode
        self.writers: dict[tuple[str, ...], Writer] = {}

    def writer(self, names: tuple[str, ...]) -> Writer:
        """What inserts records of these columns; raises `ConfigurationError` for a column that is not there."""
        found = self.writers.get(names)
        if found is None:
            found = self.writers[names] = Writer(self.table, self.dialect, names, self.mode)
        return found

    def batch(self, records: Sequence[Record]) -> Batch:
        """Convert records, in their order; raises `BadRowError` for the first that cannot be."""
        items: list[tuple[Writer, list[tuple[Any, ...]]]] = []
        start = 0
        for at in range(1, len(records) + 1):
            if at == len(records) or records[at][1] != records[start][1]:
                writer = self._writer_for(records[start])
                items.append((writer, writer.convert(records[start:at])))
                start = at
        return Batch([record[0] for record in records], items)

    def _writer_for(self, record: Record) -> Writer:
        if self.mode != "json":
            return self.writer(record[1])
        try:
            return self.writer(record[1])
        except ValueError as error:  # one object of many may differ from the others
            raise BadRowError(record[0], str(error)) from None


def _converter(field: Field, mode: Mode) -> tuple[Callable[[Any], Any] | None, str | None]:
    """What converts a value of the field, and what an empty cell is; None where there is nothing to do."""
    if mode == "json":
        return field.from_json, None
    convert = field.from_text
    if mode == "raw" or not field.is_text:
        return convert, field.empty
    if convert is None:
        return unescape_formula, field.empty
    return lambda text: convert(unescape_formula(text)), field.empty


def _converted(values: Sequence[Any], convert: Callable[[Any], Any] | None, empty: str | None) -> list[Any]:
    if convert is None:
        return list(values) if empty is None else [empty if value is None else value for value in values]
    if empty is None:
        return [None if value is None else convert(value) for value in values]
    return [empty if value is None else convert(value) for value in values]


def _first_bad(values: Sequence[Any], convert: Callable[[Any], Any] | None, field: Field) -> tuple[int, Field, str]:
    assert convert is not None
    for at, value in enumerate(values):
        try:
            if value is not None:
                convert(value)
        except _REFUSED as error:
            return at, field, f"{_shown(value)} {_reason(error, field)}"
    raise AssertionError("a conversion failed once and not again")


def _reason(error: Exception, field: Field) -> str:
    message = str(error)
    if message.startswith("is "):
        return message
    return f"cannot be read as {type(field.type).__name__.removeprefix('Loose').removeprefix('_').upper()}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _maker(default: Any) -> Callable[[], Any]:
    if default.is_callable:
        return lambda: default.arg(None)
    return lambda: default.arg


def _as_it_is(column: sa.Column[Any]) -> Field:
    return Field(column.name, column.type, None, None, None, None, False, None)
