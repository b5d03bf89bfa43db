"""Rows that a database starts with: fixtures put in place as often as one likes, or a function of the application's."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from ..database import SQLAlchemy
from ..exceptions import BadRowError, ConfigurationError
from .columns import Field
from .formats import format_of
from .insert import Mode, Writer
from .load import set_sequences, told
from .readers import Options, Record, read_records

__all__ = ["SeedReport", "seed_function", "seed_path"]

_NUMBER = re.compile(r"^\d+[-_. ]")


@dataclass(frozen=True, slots=True)
class SeedReport:
    """How many rows a table got, how many were changed, and how many were as they should be."""

    table: str
    inserted: int
    updated: int
    unchanged: int


def seed_path(
    engine: sa.Engine, path: str, table_of: Callable[[str], sa.Table], *, table: str | None = None
) -> list[SeedReport]:
    """Put the rows of a fixture, or of all fixtures of a folder, in place; all of it in one transaction.

    A fixture is a CSV, NDJSON or JSON file named after its table, with a number before it where the order matters:
    ``10_user.json``. A row is found by its primary key, or by the columns of a unique constraint where the key is not
    given: it is inserted where it is missing, and otherwise the columns that the fixture names are made equal.
    Tables that are referred to come first; ``table`` names that of a single file.

    Raises `BadRowError` for a row that does not fit, `ConfigurationError` where there is nothing to read.
    """
    files = _fixtures(path)
    if table is not None and len(files) > 1:
        raise ConfigurationError("A table is named for one file, and not for a folder.")
    found = [(table_of(table or _NUMBER.sub("", file.stem)), file) for file in files]
    reports: list[SeedReport] = []
    with engine.begin() as connection:
        for target, file in _ordered(found):
            try:
                reports.append(_seed_file(connection, target, file))
            except BadRowError as error:
                raise BadRowError(error.line, f"{error.reason} ({file.name})", column=error.column) from None
            set_sequences(connection, target, [column.name for column in target.columns])
    return reports


def seed_function(db: SQLAlchemy, function: Callable[..., Any]) -> None:
    """Call a function of the application's, plain or async, in one transaction.

    It is given the session where it takes an argument. What it raises rolls everything back.
    """
    takes_session = bool(inspect.signature(function).parameters)
    if inspect.iscoroutinefunction(function):
        asyncio.run(_seed_async(db, function, takes_session))
        return
    with db.transaction():
        function(*([db.session] if takes_session else []))


async def _seed_async(db: SQLAlchemy, function: Callable[..., Any], takes_session: bool) -> None:
    try:
        async with db.transaction():
            await function(*([db.async_session] if takes_session else []))
    finally:
        await db.adispose()


def _fixtures(path: str) -> list[Path]:
    if os.path.isfile(path):
        return [Path(path)]
    if not os.path.isdir(path):
        raise ConfigurationError(f"There is no file or folder {path}.")
    found = sorted(item for item in Path(path).iterdir() if item.suffix in (".csv", ".ndjson", ".jsonl", ".json"))
    if not found:
        raise ConfigurationError(f"The folder {path} has no fixtures: files such as user.json or 10_user.csv.")
    return found


def _ordered(found: Sequence[tuple[sa.Table, Path]]) -> list[tuple[sa.Table, Path]]:
    """By the numbers of the names where there are any, else what is referred to first."""
    if any(_NUMBER.match(file.name) for _, file in found):
        return list(found)
    names = {table.fullname for table, _ in found}
    left, ordered = list(found), list[tuple[sa.Table, Path]]()
    while left:
        waiting = {table.fullname for table, _ in left}
        free = [item for item in left if not (_referred(item[0]) & names & waiting - {item[0].fullname})]
        taken = free or left  # tables that refer to each other: as they come
        ordered += taken
        left = [item for item in left if item not in taken]
    return ordered


def _referred(table: sa.Table) -> set[str]:
    return {key.target_fullname.rpartition(".")[0] for key in table.foreign_keys}


def _seed_file(connection: sa.Connection, table: sa.Table, file: Path) -> SeedReport:
    file_format = format_of(str(file), None)
    counts = {"inserted": 0, "updated": 0, "unchanged": 0}
    targets: dict[tuple[str, ...], _Upsert] = {}
    with file.open("rb") as source:
        for record in read_records(source, file_format, Options(), lambda _count: None):
            names = record[1]
            if names not in targets:
                try:
                    targets[names] = _Upsert(connection, table, names, "csv" if file_format == "csv" else "json")
                except ConfigurationError as error:
                    raise BadRowError(record[0], str(error)) from None
            counts[targets[names].put(connection, record)] += 1
    return SeedReport(table.fullname, **counts)


class _Upsert:
    """Puts records of the same columns in place."""

    def __init__(self, connection: sa.Connection, table: sa.Table, names: tuple[str, ...], mode: Mode) -> None:
        self.writer = Writer(table, connection.dialect, names, mode)
        self.fields = self.writer.fields
        key = _key(table, set(names))
        columns = {column.name: sa.type_coerce(column, _type(self.fields, column)) for column in table.columns}
        self.names = names
        # a name of its own for each value: a condition and a column to be set may be the same
        condition = sa.and_(*(columns[n] == sa.bindparam(f"k{names.index(n)}", type_=columns[n].type) for n in key))
        self.key = [(names.index(name), f"k{names.index(name)}") for name in key]
        self.select = sa.select(*(columns[name] for name in names)).where(condition)
        target = sa.table(
            table.name, *(sa.column(field.name, field.type) for field in self.fields), schema=table.schema
        )
        named = sa.and_(*(target.c[n] == sa.bindparam(f"k{names.index(n)}", type_=target.c[n].type) for n in key))
        self.update = sa.update(target).where(named)
        self.changed = [field for field in self.fields if field.name not in key]

    def put(self, connection: sa.Connection, record: Record) -> str:
        """Insert or update one row; returns what was done."""
        values = self.writer.plain(record)
        found = connection.execute(self.select, {name: values[at] for at, name in self.key}).all()
        if len(found) > 1:
            raise BadRowError(record[0], "several rows have that key")
        try:
            if not found:
                self.writer.write(connection, self.writer.convert([record]))
                return "inserted"
            old = dict(zip(self.names, found[0], strict=True))
            new = dict(zip(self.names, values, strict=True))
            different = {f.name: new[f.name] for f in self.changed if not _same(f, old[f.name], new[f.name])}
            if not different:
                return "unchanged"
            statement = self.update.values(different)
            connection.execute(statement, {name: values[at] for at, name in self.key})
        except exc.StatementError as error:
            raise BadRowError(record[0], told(error)) from None
        return "updated"


def _type(fields: Iterable[Field], column: sa.Column[Any]) -> Any:
    return next((field.type for field in fields if field.name == column.name), column.type)


def _same(field: Field, old: Any, new: Any) -> bool:
    if old is None or new is None or field.to_json is None:
        return bool(old == new)
    return bool(old == new or field.to_json(old) == field.to_json(new))


def _key(table: sa.Table, names: set[str]) -> list[str]:
    """The columns by which rows of these columns are found."""
    primary = [column.name for column in table.primary_key.columns]
    if primary and names.issuperset(primary):
        return primary
    candidates = [
        [column.name for column in item.columns] for item in table.constraints if isinstance(item, sa.UniqueConstraint)
    ]
    candidates += [[c.name for c in index.columns] for index in table.indexes if index.unique]
    candidates += [[column.name] for column in table.columns if column.unique]
    for candidate in sorted(candidates):
        if candidate and names.issuperset(candidate):
            return candidate
    listed = ", ".join(primary) or "it has none"
    raise ConfigurationError(
        f"A row of {table.fullname} cannot be found again: give its primary key ({listed}) or the columns of a unique "
        "constraint."
    )
