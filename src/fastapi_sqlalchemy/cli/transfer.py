"""``fastapi-sqlalchemy load``, ``dump`` and ``seed``: rows between tables and files.

Exit codes: 0 done, 1 a row of the file does not fit, 2 asked for wrongly or the database fails, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from typing import Annotated, Any, NoReturn

import typer

from ..discovery import import_object
from ..exceptions import BadRowError, ConfigurationError
from ..transfer import Options, seed_function, seed_path
from ..transfer import dump as dump_table
from ..transfer import load as load_table
from .options import Db, Json
from .transfer_progress import moving
from .transfer_source import opened

__all__ = ["dump", "load", "seed"]

_Url = Annotated[str | None, typer.Option(help="A database URL, or the path of a SQLite file.")]
_Table = Annotated[str | None, typer.Option(help="The table, with its schema where it is not the default one.")]
_Model = Annotated[str | None, typer.Option(help="The model, by the name of its class.")]
_Format = Annotated[str | None, typer.Option("--format", help="csv, ndjson or json; else the suffix tells.")]
_Batch = Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows of a transaction or page.")]
_Delimiter = Annotated[str, typer.Option(help="What separates the cells of a CSV.")]
_Raw = Annotated[bool, typer.Option("--raw", help="Leave apostrophes before formulas alone.")]


def load(
    file: Annotated[str, typer.Argument(help="The file; - is the standard input.", metavar="FILE")],
    table: _Table = None,
    model: _Model = None,
    url: _Url = None,
    db: Db = None,
    file_format: _Format = None,
    batch: _Batch = 10_000,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a load was interrupted.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Forget an interrupted load, keep its rows.")] = False,
    delimiter: _Delimiter = ",",
    null: Annotated[str | None, typer.Option(help="A text that stands for NULL, beside the empty cell.")] = None,
    raw: _Raw = False,
    as_json: Json = False,
) -> None:
    """Load a CSV, NDJSON or JSON file into a table, a batch at a time."""
    started = time.monotonic()
    options = Options(_one(delimiter), null, escapes=not raw)
    with opened(url, db, write=True) as database:
        target = database.table(table, model)
        size = None if file == "-" else _size(file)
        try:
            with moving(f"Loading {target.fullname}", size) as progress:
                report = load_table(
                    database.engine,
                    target,
                    sys.stdin.buffer if file == "-" else file,
                    file_format=file_format,
                    batch=batch,
                    resume=resume,
                    restart=restart,
                    options=options,
                    progress=progress,
                )
        except BadRowError as error:
            _refuse(error, file, as_json)
    _tell(asdict(report), f"{report.rows} rows into {report.table}", started, report.resumed_at, as_json)


def dump(
    file: Annotated[str, typer.Argument(help="The file; - is the standard output.", metavar="FILE")] = "-",
    table: _Table = None,
    model: _Model = None,
    url: _Url = None,
    db: Db = None,
    file_format: _Format = None,
    columns: Annotated[str | None, typer.Option(help="The only columns to write, comma separated.")] = None,
    batch: _Batch = 10_000,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a dump was interrupted.")] = False,
    delimiter: _Delimiter = ",",
    raw: _Raw = False,
    as_json: Json = False,
) -> None:
    """Write the rows of a table to a CSV, NDJSON or JSON file, secret columns included."""
    started = time.monotonic()
    if file == "-" and as_json:
        raise ConfigurationError("--json tells the result on the standard output, where the rows go; name a file.")
    options = Options(_one(delimiter), escapes=not raw)
    with opened(url, db, write=False) as database:
        target = database.table(table, model)
        with moving(f"Dumping {target.fullname}", None) as progress:
            report = dump_table(
                database.engine,
                target,
                sys.stdout.buffer if file == "-" else file,
                file_format=file_format,
                columns=None if columns is None else [name.strip() for name in columns.split(",")],
                batch=batch,
                resume=resume,
                options=options,
                progress=lambda rows: progress(rows, 0),
            )
    if file == "-":
        sys.stdout.buffer.flush()
        return
    _tell(asdict(report), f"{report.rows} rows of {report.table} to {file}", started, report.resumed_at, as_json)


def seed(
    source: Annotated[
        str, typer.Argument(help="module:function, a fixture, or a folder of fixtures.", metavar="SOURCE")
    ],
    table: Annotated[str | None, typer.Option(help="The table of a single fixture that has another name.")] = None,
    url: _Url = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Put the rows in place that a database starts with, as often as you like; all in one transaction."""
    started = time.monotonic()
    with opened(url, db, write=True) as database:
        if ":" in source and not os.path.exists(source):
            function = import_object(source)
            if not callable(function):
                raise ConfigurationError(f"{source} is no function.")
            seed_function(database.db, function)
            _tell({"function": source}, f"Called {source}", started, 0, as_json)
            return
        try:
            reports = seed_path(database.engine, source, lambda name: database.table(name, None), table=table)
        except BadRowError as error:
            _refuse(error, source, as_json)
    told = ", ".join(
        f"{item.table} {item.inserted} inserted, {item.updated} updated, {item.unchanged} unchanged" for item in reports
    )
    _tell({"tables": [asdict(item) for item in reports]}, f"Seeded {told}", started, 0, as_json)


def _one(delimiter: str) -> str:
    character = "\t" if delimiter in ("\\t", "tab") else delimiter
    if len(character) != 1 or character in "\"'\r\n":
        raise ConfigurationError("--delimiter is one character, such as ; or tab.")
    return character


def _size(file: str) -> int | None:
    return os.path.getsize(file) if os.path.isfile(file) else None


def _refuse(error: BadRowError, file: str, as_json: bool) -> NoReturn:
    if as_json:
        told = {"line": error.line, "last_line": error.last_line, "column": error.column, "reason": error.reason}
        _print(json.dumps({"file": file, "error": told, "kept": error.kept}))
    kept = "no row was kept" if not error.kept else f"{error.kept} rows of earlier batches are in the table"
    cure = " Correct the file and go on with --resume." if error.kept and file != "-" else ""
    message = f"fastapi-sqlalchemy: {file}, {error}; {kept}.{cure}"
    print(" ".join(message.split()), file=sys.stderr)  # noqa: T201
    raise typer.Exit(1)


def _tell(report: dict[str, Any], sentence: str, started: float, resumed_at: int, as_json: bool) -> None:
    seconds = time.monotonic() - started
    if as_json:
        _print(json.dumps({**report, "seconds": round(seconds, 3)}))
        return
    after = f", after {resumed_at} that were there" if resumed_at else ""
    _print(f"{sentence}{after} ({seconds:.1f} s).")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
