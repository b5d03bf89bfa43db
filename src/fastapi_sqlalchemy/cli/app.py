"""The command ``fastapi-sqlalchemy``: its subcommands, and what becomes of their errors."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from sqlalchemy import exc as sa_exc

from ..exceptions import FastAPISQLAlchemyError
from ..web.startup import describe_failure
from .admin import app as admin
from .doctor import doctor
from .migrations import app as migrations
from .new import new
from .options import Group
from .routes import routes
from .serve import serve
from .shell import CodeFailedError, shell
from .transfer import dump, load, seed

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="fastapi-sqlalchemy",
    help="FastAPI and SQLAlchemy, joined.",
    add_completion=False,
    cls=Group,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("new", short_help="Make a project that runs, migrates and passes its tests.")(new)
app.command("serve", short_help="Serve the tables and views of a database as a REST API.")(serve)
app.command("routes", short_help="List the routes with their session, login and owner.")(routes)
app.command("doctor", short_help="Look for what is wrong with the databases, and tell the cure.")(doctor)
app.command("load", short_help="Load a CSV, NDJSON or JSON file into a table.")(load)
app.command("dump", short_help="Write the rows of a table to a CSV, NDJSON or JSON file.")(dump)
app.command("seed", short_help="Put the rows in place that a database starts with.")(seed)
app.command("shell", short_help="Open Python with the models loaded and a session at hand.")(shell)
app.add_typer(admin, name="admin")
app.add_typer(migrations, name="db")


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fastapi-sqlalchemy {version('fastapi-sqlalchemy')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """FastAPI and SQLAlchemy, joined."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 what was looked at is not right, 2 an error, 130 interrupted.

    An error is one line on the standard error; a traceback is shown with ``--debug`` only.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        result = app([item for item in given if item != "--debug"], "fastapi-sqlalchemy", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except typer.Exit as error:
        return error.exit_code
    except Exception as error:
        line = _line(error)
        if debug:
            traceback.print_exc()
        elif line is None:
            line = f"{describe_failure(error)} (an error of this program; --debug shows where)"
        print(f"fastapi-sqlalchemy: {line or describe_failure(error)}", file=sys.stderr)  # noqa: T201
        return 1 if isinstance(error, CodeFailedError) else 2
    return result if isinstance(result, int) else 0


def main() -> NoReturn:
    """Run the command and leave the process."""
    sys.exit(run())


def _line(error: Exception) -> str | None:
    """What to tell of an error that a user can cause, or None."""
    usage = getattr(error, "format_message", None)
    if usage is not None:
        return " ".join(str(usage()).split())
    if isinstance(error, CodeFailedError):
        return str(error)
    if isinstance(error, (FastAPISQLAlchemyError, sa_exc.SQLAlchemyError, OSError)):
        return describe_failure(error)
    return None
