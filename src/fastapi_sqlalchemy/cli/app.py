"""The command ``fastapi-sqlalchemy``: its subcommands, and what becomes of their errors."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from ..web.startup import describe_failure
from .commands import Root
from .failures import CodeFailedError, line_of

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="fastapi-sqlalchemy",
    help="FastAPI and SQLAlchemy, joined.",
    add_completion=False,
    cls=Root,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
        line = line_of(error)
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
