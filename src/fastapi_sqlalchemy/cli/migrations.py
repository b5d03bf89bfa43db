"""``fastapi-sqlalchemy db``: migrations, over Alembic."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import SQLAlchemyError

from ..discovery import find_databases, project_root
from ..exceptions import FastAPISQLAlchemyError
from ..migrations.layout import INI
from ..migrations.linter import Warning_
from ..migrations.lock import PATIENCE
from ..migrations.runner import Migrations, Step
from .options import Db, Group, Json

__all__ = ["app"]

app = typer.Typer(
    help="Migrations. Exit codes: 0 done; 1 check found something; 2 it could not be done.",
    cls=Group,
    rich_markup_mode=None,
)

_STEPS_BACK = {"ignore_unknown_options": True}  # -1 is a revision here

Ini = Annotated[Path | None, typer.Option("--config", help=f"The {INI} of the project; else that of its root.")]
Only = Annotated[str | None, typer.Option("--name", "-n", help=f"One history, by its section in {INI}; else all.")]
Timeout = Annotated[float, typer.Option("--lock-timeout", help="Seconds to wait for another process that migrates.")]
Message = Annotated[str | None, typer.Option("--message", "-m", help="What the revision does.")]
Revision = Annotated[str, typer.Argument(help="A revision, head, base, or a number of steps such as +1 or -1.")]


@app.command("init", short_help="Set migrations up: alembic.ini, env.py, a folder.")
def init(
    db: Db = None,
    directory: Annotated[str, typer.Option("--directory", help="The folder for the revisions.")] = "migrations",
    shared: Annotated[bool, typer.Option("--shared", help="Several databases: one history for all.")] = False,
    config: Ini = None,
) -> None:
    """Set migrations up: alembic.ini, env.py and a folder for revisions."""
    migrations = _migrations(db, config)
    for path in migrations.init(directory, shared=shared):
        _say(os.path.relpath(path))
    _say('Next: fastapi-sqlalchemy db revision --autogenerate -m "first"')


@app.command("revision")
def revision(
    message: Message = None,
    autogenerate: Annotated[
        bool, typer.Option("--autogenerate", help="Write what differs between models and database.")
    ] = False,
    head: Annotated[str, typer.Option("--head", help="The revision to follow.")] = "head",
    db: Db = None,
    config: Ini = None,
    name: Only = None,
    as_json: Json = False,
) -> None:
    """Make a revision."""
    made = _migrations(db, config, name).revision(message, autogenerate=autogenerate, head=head)
    if as_json:
        _dump([{"path": str(path), "warnings": _as_dicts(warnings)} for path, warnings in made])
        return
    if not made:
        _say("Nothing differs between the models and the database; there is no revision to make.")
    for path, warnings in made:
        _say(os.path.relpath(path))
        _warn(warnings)


@app.command("upgrade", context_settings=_STEPS_BACK)
def upgrade(
    revision: Revision = "head",
    db: Db = None,
    config: Ini = None,
    name: Only = None,
    lock_timeout: Timeout = PATIENCE,
    as_json: Json = False,
) -> None:
    """Apply the revisions that wait."""
    migrations = _migrations(db, config, name, lock_timeout)
    with _telling_where_it_stopped(migrations, as_json=as_json):
        steps = migrations.upgrade(revision)
    _steps(steps, as_json=as_json)


@app.command("downgrade", context_settings=_STEPS_BACK)
def downgrade(
    revision: Revision,
    db: Db = None,
    config: Ini = None,
    name: Only = None,
    lock_timeout: Timeout = PATIENCE,
    as_json: Json = False,
) -> None:
    """Take revisions back."""
    migrations = _migrations(db, config, name, lock_timeout)
    with _telling_where_it_stopped(migrations, as_json=as_json):
        steps = migrations.downgrade(revision)
    _steps(steps, as_json=as_json)


@app.command("current")
def current(db: Db = None, config: Ini = None, name: Only = None, as_json: Json = False) -> None:
    """Show which revision each database is at."""
    migrations = _migrations(db, config, name)
    _names(migrations.current(), "no migrations", as_json=as_json)
    if not as_json:
        for key, statements in migrations.unfinished().items():
            if statements:
                _say(f"{key}: a revision is not finished; db upgrade goes on behind what is done of it:")
            for statement in statements:
                _say(f"  {' '.join(statement.split())}")


@app.command("heads")
def heads(db: Db = None, config: Ini = None, name: Only = None, as_json: Json = False) -> None:
    """Show the newest revisions."""
    _names(_migrations(db, config, name).heads(), "no revisions", as_json=as_json)


@app.command("history")
def history(db: Db = None, config: Ini = None, name: Only = None, as_json: Json = False) -> None:
    """Show the revisions, newest first."""
    found = _migrations(db, config, name).history()
    if as_json:
        _dump({key: [_script(item) for item in scripts] for key, scripts in found.items()})
        return
    for key, scripts in found.items():
        if len(found) > 1:
            _say(f"{key}:")
        for item in scripts:
            _say(f"{item.revision}  {item.doc}{'  (head)' if item.is_head else ''}")


@app.command("show")
def show(revision: Revision, db: Db = None, config: Ini = None, name: Only = None, as_json: Json = False) -> None:
    """Show a revision."""
    found = _migrations(db, config, name).show(revision)
    if as_json:
        _dump([_script(item) for item in found])
        return
    for item in found:
        _say(item.log_entry.strip())


@app.command("merge")
def merge(message: Message = None, db: Db = None, config: Ini = None, name: Only = None) -> None:
    """Join two heads into one."""
    made = _migrations(db, config, name).merge(message)
    for path in made:
        _say(os.path.relpath(path))
    if not made:
        _say("There is one head; nothing is to be joined.")


@app.command("stamp")
def stamp(revision: Revision, db: Db = None, config: Ini = None, name: Only = None) -> None:
    """Note that the databases are at a revision, without running it."""
    _migrations(db, config, name).stamp(revision)


@app.command("check", short_help="Tell what differs between the models and the databases.")
def check(db: Db = None, config: Ini = None, name: Only = None, as_json: Json = False) -> None:
    """Tell what differs between the models and the databases, and which revisions wait; exit code 1 where any."""
    migrations = _migrations(db, config, name)
    found = migrations.check()
    warnings = migrations.lint() if any(item.pending for item in found) else []
    if as_json:
        rows = [{"database": i.database, "pending": i.pending, "differences": i.sentences} for i in found]
        _dump({"clean": all(item.is_clean for item in found), "databases": rows, "warnings": _as_dicts(warnings)})
    else:
        for item in found:
            _say(f"{item.database}: {'in order' if item.is_clean else 'not in order'}")
            for waiting in item.pending:
                _say(f"  The revision {waiting} waits.")
            for sentence in item.sentences:
                _say(f"  {sentence}")
        _warn(warnings)
    if not all(item.is_clean for item in found):
        raise typer.Exit(1)


@app.command("sql", short_help="Print the statements of an upgrade without running them.")
def sql(
    revision: Revision = "head",
    down: Annotated[bool, typer.Option("--downgrade", help='The way back; REVISION is "from:to".')] = False,
    db: Db = None,
    config: Ini = None,
    name: Only = None,
) -> None:
    """Print the statements of an upgrade without running them, and what is dangerous in them."""
    migrations = _migrations(db, config, name)
    typer.echo(migrations.sql(revision, downgrade=down), nl=False)
    _warn([] if down else migrations.lint())


def _migrations(
    db: str | None, config: Path | None, only: str | None = None, lock_timeout: float = PATIENCE
) -> Migrations:
    ini = (config or project_root() / INI).resolve()
    databases = None if db is None else find_databases(db, folder=ini.parent)
    return Migrations(ini, databases=databases, only=only, lock_timeout=lock_timeout)


@contextmanager
def _telling_where_it_stopped(migrations: Migrations, *, as_json: bool) -> Generator[None]:
    """What was done before a failure stays: tell where the databases are now, if they can be asked."""
    try:
        yield
    except Exception:
        if migrations.walked and not as_json:
            with suppress(FastAPISQLAlchemyError, SQLAlchemyError):  # the failure itself is the one to tell
                for key, names in migrations.current().items():
                    _say(f"{key} is at {', '.join(names) or 'no revision'} now.")
        raise


def _steps(steps: Sequence[Step], *, as_json: bool) -> None:
    if as_json:
        _dump(
            [{"database": s.database, "revision": s.revision, "message": s.message, "up": s.is_upgrade} for s in steps]
        )
        return
    for step in steps:
        _say(f"{step.database}: {'applied' if step.is_upgrade else 'taken back'} {step.revision}  {step.message}")
    if not steps:
        _say("There is nothing to do.")


def _names(found: dict[str, list[str]], nothing: str, *, as_json: bool) -> None:
    if as_json:
        _dump(found)
        return
    for key, names in found.items():
        _say(f"{key}: {', '.join(names) or nothing}")


def _script(item: Any) -> dict[str, Any]:
    down = item.down_revision
    return {
        "revision": item.revision,
        "follows": [down] if isinstance(down, str) else list(down or ()),
        "message": item.doc,
        "path": item.path,
        "is_head": item.is_head,
    }


def _as_dicts(warnings: Sequence[Warning_]) -> list[dict[str, str]]:
    return [{"statement": item.statement, "reason": item.reason} for item in warnings]


def _warn(warnings: Sequence[Warning_]) -> None:
    for item in warnings:
        typer.echo(f"Warning: {item.statement[:120]}: {item.reason}.", err=True)


def _say(text: str) -> None:
    typer.echo(text)


def _dump(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str))
