"""Rows of a table into a file, page by page along its key: constant memory, and gone on with after an interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import sqlalchemy as sa

from ..exceptions import ConfigurationError
from ..rest.narrowing import is_dict
from .columns import Field, fields_of
from .formats import format_of
from .readers import Options
from .writers import RowWriter

__all__ = ["DumpReport", "dump"]

_NOTE = ".position"


@dataclass(frozen=True, slots=True)
class DumpReport:
    """``rows`` were written now, and ``resumed_at`` before."""

    table: str
    rows: int
    resumed_at: int


def dump(
    engine: sa.Engine,
    table: sa.Table,
    target: str | IO[bytes],
    *,
    file_format: str | None = None,
    columns: Sequence[str] | None = None,
    batch: int = 10_000,
    resume: bool = False,
    options: Options | None = None,
    progress: Callable[[int], None] | None = None,
) -> DumpReport:
    """Write the rows of a table to a file, or to an open binary one.

    A file is written as ``FILE.part``, with ``FILE.part.position`` beside it, and gets its name when it is whole:
    ``resume`` goes on with what an interruption left. The rows are those of one snapshot where the database has them
    and nothing was interrupted. A table without a key is read by one statement, and cannot be resumed. The columns
    that the database computes are left out unless ``columns`` names what to write.

    Raises `ConfigurationError` for what was asked for wrongly, such as a file that is there already.
    """
    if batch < 1:
        raise ConfigurationError("A batch has one row at least.")
    given = options or Options()
    chosen = format_of(target if isinstance(target, str) else "-", file_format)
    fields = fields_of(table, engine.dialect, columns)
    if not fields:
        raise ConfigurationError(f"The table {table.fullname} has no columns to write.")
    writer = RowWriter(fields, chosen, delimiter=given.delimiter, escapes=given.escapes)
    key = _Key(table, engine.dialect)
    with engine.connect() as connection:
        if key.has_nulls(connection):
            key.leave()
    if not isinstance(target, str):
        if resume:
            raise ConfigurationError("What goes to a stream cannot be resumed; write a file.")
        target.write(writer.start())
        rows = 0
        for page, _ in _pages(engine, table, fields, key, None, batch):
            target.write(writer.rows(page, first=not rows))
            rows += len(page)
            if progress is not None:
                progress(rows)
        target.write(writer.end())
        return DumpReport(table.fullname, rows, 0)
    if resume and not key.columns:
        raise ConfigurationError(f"The table {table.fullname} has no key to go on by; write it from the start.")
    if os.path.exists(target):
        raise ConfigurationError(f"The file {target} is there already; remove it or name another.")
    return _Part(target, writer, key, table.fullname).write(engine, table, batch, resume, progress)


class _Part:
    """The file that is not whole yet, and the note that says how much of it is."""

    def __init__(self, target: str, writer: RowWriter, key: _Key, table: str) -> None:
        self.target = target
        self.path = f"{target}.part"
        self.note = self.path + _NOTE
        self.writer = writer
        self.key = key
        self.shape = [table, writer.file_format, writer.delimiter, writer.escapes, *(f.name for f in writer.fields)]

    def write(
        self, engine: sa.Engine, table: sa.Table, batch: int, resume: bool, progress: Callable[[int], None] | None
    ) -> DumpReport:
        start, size, after = self._begin(resume)
        rows = start
        with open(self.path, "r+b" if start else "wb", opener=_private) as file:
            file.truncate(size)
            file.seek(size)
            if not start:
                file.write(self.writer.start())
            for page, last in _pages(engine, table, self.writer.fields, self.key, after, batch):
                file.write(self.writer.rows(page, first=not rows))
                rows += len(page)
                if last:
                    self._note(file, rows, last)
                if progress is not None:
                    progress(rows)
            file.write(self.writer.end())
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        if os.path.exists(self.note):
            os.unlink(self.note)
        return DumpReport(table.fullname, rows - start, start)

    def _begin(self, resume: bool) -> tuple[int, int, list[Any] | None]:
        """The rows and bytes that are written already, and the key of the last of them."""
        if not os.path.exists(self.note):
            return 0, 0, None
        if not resume:
            raise ConfigurationError(
                f"A dump to {self.target} was interrupted, or is at work. Go on with --resume (resume=True), or remove "
                f"{self.path} and {self.note}."
            )
        with open(self.note, encoding="utf-8") as file:
            noted = json.load(file)
        if noted["shape"] != self.shape:
            raise ConfigurationError(f"The dump to {self.target} that was interrupted has other columns or a format.")
        return noted["rows"], noted["size"], self.key.from_json(noted["after"])

    def _note(self, file: IO[bytes], rows: int, last: Sequence[Any]) -> None:
        file.flush()
        noted = {"shape": self.shape, "rows": rows, "size": file.tell(), "after": self.key.to_json(last)}
        with open(f"{self.note}.new", "w", encoding="utf-8", opener=_private) as note:
            json.dump(noted, note)
        os.replace(f"{self.note}.new", self.note)


def _private(path: str, flags: int) -> int:
    """Open a file that its owner alone may read: a dump has what the columns have, secrets too."""
    return os.open(path, flags, 0o600)


class _Key:
    """The columns that tell the rows of a table apart, as they are compared and noted."""

    def __init__(self, table: sa.Table, dialect: sa.Dialect) -> None:
        self.columns = list(table.primary_key.columns)
        self.raw = dialect.name == "sqlite"  # whose values are compared as they lie in the file, whatever their type
        self.fields = fields_of(table, dialect, [c.name for c in self.columns if c.computed is None])
        if len(self.fields) < len(self.columns):
            self.columns, self.fields = [], []
        self.expressions: list[sa.ColumnElement[Any]] = [
            sa.type_coerce(column, self._type(field)) for column, field in zip(self.columns, self.fields, strict=True)
        ]

    def _type(self, field: Field) -> sa.types.TypeEngine[Any]:
        return sa.types.NullType() if self.raw else field.type

    def leave(self) -> None:
        """Do without the key."""
        self.columns, self.fields, self.expressions = [], [], []

    def has_nulls(self, connection: sa.Connection) -> bool:
        """Whether rows have no value there, as SQLite allows in a key that is no INTEGER."""
        if not self.raw or not self.columns:
            return False
        missing = sa.select(sa.literal(1)).where(sa.or_(*(column.is_(None) for column in self.columns))).limit(1)
        return connection.scalar(missing) is not None

    def after(self, values: Sequence[Any]) -> sa.ColumnElement[bool]:
        """The rows behind that key; the first column stands alone too, so that every planner sees the range."""
        parts: list[sa.ColumnElement[bool]] = []
        for number, (expression, value) in enumerate(zip(self.expressions, values, strict=True)):
            same = [self.expressions[at] == self._bind(at, values[at]) for at in range(number)]
            parts.append(sa.and_(*same, expression > self._bind(number, value)))
        if len(parts) == 1:
            return parts[0]
        return sa.and_(self.expressions[0] >= self._bind(0, values[0]), sa.or_(*parts))

    def _bind(self, number: int, value: Any) -> sa.BindParameter[Any]:
        return sa.bindparam(None, value, type_=self._type(self.fields[number]))

    def to_json(self, values: Sequence[Any]) -> list[Any]:
        if self.raw:
            return [{"bytes": value.hex()} if isinstance(value, bytes) else value for value in values]
        return [
            value if field.to_json is None else field.to_json(value)
            for field, value in zip(self.fields, values, strict=True)
        ]

    def from_json(self, values: Sequence[Any]) -> list[Any]:
        if self.raw:
            return [bytes.fromhex(value["bytes"]) if is_dict(value) else value for value in values]
        return [
            value if field.from_json is None else field.from_json(value)
            for field, value in zip(self.fields, values, strict=True)
        ]


def _pages(
    engine: sa.Engine, table: sa.Table, fields: Sequence[Field], key: _Key, after: Sequence[Any] | None, size: int
) -> Generator[tuple[list[Sequence[Any]], Sequence[Any]], None, None]:
    """The rows of the table, ``size`` at a time, and the key of the last of each."""
    width = len(fields)
    listed = [sa.type_coerce(table.c[field.name], field.type) for field in fields]
    with _snapshot(engine) as connection:
        if not key.columns:
            result = connection.execution_options(stream_results=True, max_row_buffer=size).execute(sa.select(*listed))
            for rows in result.partitions(size):
                yield [tuple(row) for row in rows], ()
            return
        last = after
        while True:
            statement = sa.select(*listed, *key.expressions).order_by(*key.expressions).limit(size)
            if last is not None:
                statement = statement.where(key.after(last))
            found = connection.execute(statement).all()
            if not found:
                return
            last = tuple(found[-1])[width:]
            yield [tuple(row)[:width] for row in found], last
            if len(found) < size:
                return


def _snapshot(engine: sa.Engine) -> sa.Connection:
    """A connection whose statements see one state of the database."""
    connection = engine.connect()
    if engine.dialect.name in ("postgresql", "mysql", "mariadb"):
        return connection.execution_options(isolation_level="REPEATABLE READ")
    return connection
