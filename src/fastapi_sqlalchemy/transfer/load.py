"""Rows of a file into a table, in batches kept or refused as a whole, gone on with after an interruption."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import REGCLASS

from ..exceptions import BadRowError, ConfigurationError
from ..web.sqlstate import cause_of, driver_error
from ..web.startup import describe_failure
from .formats import format_of
from .insert import Batch, Inserter, Mode
from .position import Position, fingerprint
from .readers import Options, Record, read_records

__all__ = ["BATCH", "LoadReport", "Progress", "load", "set_sequences", "told"]

BATCH = 10_000
"""Rows of a batch, unless told otherwise."""

_MAX_BYTES = 8 * 1024 * 1024
"""A batch ends where it has read as much, however few its rows are."""

Progress = Callable[[int, int], None]
"""Told of the rows that are in the table and of the bytes of the file that were read."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """``rows`` were inserted now, and ``resumed_at`` of the file were in the table before."""

    table: str
    rows: int
    resumed_at: int


def load(
    engine: sa.Engine,
    table: sa.Table,
    source: str | IO[bytes],
    *,
    file_format: str | None = None,
    batch: int = BATCH,
    resume: bool = False,
    restart: bool = False,
    options: Options | None = None,
    progress: Progress | None = None,
) -> LoadReport:
    """Insert the records of a file, or of an open binary one, into a table.

    ``file_format`` is "csv", "ndjson" or "json", else told by the file's suffix. Each ``batch`` of rows is one
    transaction, which also notes how far the file was read, in the table ``fastapi_sqlalchemy_load``, gone at the end.
    After an interruption ``resume`` goes on there, and ``restart`` begins anew. An open file cannot be resumed.

    Raises `BadRowError` for the first row that does not fit; its batch is not kept, those before are, and
    ``resume`` goes on once the file is corrected. `ConfigurationError` for what was asked for wrongly.
    """
    if batch < 1:
        raise ConfigurationError("A batch has one row at least.")
    chosen = format_of(source if isinstance(source, str) else "-", file_format)
    target = table.fullname
    if isinstance(source, str) and not os.path.isfile(source):
        raise ConfigurationError(f"There is no file {source}.")
    given = options or Options()
    mode: Mode = "json" if chosen != "csv" else "csv" if given.escapes else "raw"
    inserter = Inserter(table, engine.dialect, mode)
    if not isinstance(source, str):
        if resume or restart:
            raise ConfigurationError("What comes from a stream cannot be resumed; load a file.")
        return _load(engine, inserter, source, chosen, batch, None, given, progress)
    with open(source, "rb") as file:
        position = Position.begin(engine, target, fingerprint(source), resume=resume, restart=restart)
        return _load(engine, inserter, file, chosen, batch, position, given, progress)


def _load(
    engine: sa.Engine,
    inserter: Inserter,
    file: IO[bytes],
    file_format: str,
    size: int,
    position: Position | None,
    options: Options,
    progress: Progress | None,
) -> LoadReport:
    counter = _Counter()
    start = 0 if position is None else position.records
    done = start
    records = read_records(file, file_format, options, counter.add)
    try:
        for _ in itertools.islice(records, start):
            pass
        for chunk in _chunks(records, size, counter):
            _write(engine, inserter.batch(chunk), position)
            done += len(chunk)
            if position is not None:
                position.records = done
            if progress is not None:
                progress(done, counter.total)
    except BaseException as error:
        if position is not None and done == 0 and isinstance(error, (BadRowError, ConfigurationError)):
            position.end()  # nothing was kept: there is nothing to go on with
        if isinstance(error, BadRowError):
            error.kept = done
        raise
    with engine.begin() as connection:
        set_sequences(connection, inserter.table, {name for names in inserter.writers for name in names})
    if position is not None:
        position.end()
    return LoadReport(inserter.table.fullname, done - start, start)


class _Counter:
    """Bytes that were read."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, count: int) -> None:
        self.total += count


def _chunks(records: Iterator[Record], size: int, counter: _Counter) -> Generator[list[Record], None, None]:
    chunk: list[Record] = []
    limit = counter.total + _MAX_BYTES
    for record in records:
        chunk.append(record)
        if len(chunk) >= size or counter.total > limit:
            yield chunk
            chunk = []
            limit = counter.total + _MAX_BYTES
    if chunk:
        yield chunk


def _write(engine: sa.Engine, batch: Batch, position: Position | None) -> None:
    try:
        with engine.begin() as connection:
            if position is not None:
                position.advance(connection, len(batch))
            else:
                _begin(connection)
            batch.write(connection)
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    except Exception as error:
        if not _is_of_a_row(error):
            raise
        raise _find(engine, batch, error) from None


def _begin(connection: sa.Connection) -> None:
    """Start the transaction for what goes past SQLAlchemy's own execution."""
    connection.exec_driver_sql("SELECT 1")


def _is_of_a_row(error: Exception) -> bool:
    """Whether the values of a row are to blame, and not the state of the server."""
    cause = cause_of(error)
    if cause is not None:
        return cause.status in (409, 422) and cause.code != "conflict"
    return isinstance(error, (exc.DataError, exc.IntegrityError, exc.StatementError)) or isinstance(
        driver_error(error), (ValueError, TypeError, OverflowError)
    )


def _find(engine: sa.Engine, batch: Batch, error: Exception) -> BadRowError:
    """The first row with which the batch fails, by halves; nothing of what is tried is kept."""
    good, bad, found = 0, len(batch) + 1, error
    while bad - good > 1:
        middle = (good + bad) // 2
        failure = _try(engine, batch, middle)
        if failure is None:
            good = middle
        elif _is_of_a_row(failure):
            bad, found = middle, failure
        else:
            raise failure
    if bad > len(batch):  # only the whole of it fails: a constraint that is looked at in the end
        return BadRowError(batch.lines[0], told(error), last_line=batch.lines[-1])
    return BadRowError(batch.lines[bad - 1], told(found))


def _try(engine: sa.Engine, batch: Batch, count: int) -> Exception | None:
    with engine.connect() as connection, connection.begin() as transaction:
        _begin(connection)
        try:
            batch.write(connection, count)
        except Exception as error:
            transaction.rollback()
            return error
        transaction.rollback()
    return None


def told(error: Exception) -> str:
    """What the database says of a row, in one line."""
    driver: Any = driver_error(error)
    if isinstance(error, exc.StatementError) and not isinstance(error, exc.DBAPIError):
        return describe_failure(driver)
    return describe_failure(error)


def set_sequences(connection: sa.Connection, table: sa.Table, given: Iterable[str]) -> None:
    """Let PostgreSQL number the rows that follow after those that came with numbers, in the columns ``given``."""
    if connection.dialect.name != "postgresql":
        return
    quoted = connection.dialect.identifier_preparer.format_table(table)
    for name in given:
        column = table.c[name]
        if not isinstance(column.type, sa.Integer):
            continue
        found = connection.scalar(sa.select(sa.func.pg_get_serial_sequence(quoted, name)))
        if found is not None:
            sequence = sa.cast(found, REGCLASS)
            highest = sa.select(sa.func.max(column)).scalar_subquery()
            last = sa.func.coalesce(sa.func.pg_sequence_last_value(sequence), 0)
            connection.execute(sa.select(sa.func.setval(sequence, highest)).where(highest > last))
