"""``fastapi-sqlalchemy shell``: Python with the project's models loaded and a scope of every database open."""

from __future__ import annotations

import code
import importlib
import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any

import sqlalchemy
import typer

from ..config import masked
from ..discovery import FoundDatabase, find_databases
from .options import Db

__all__ = ["CodeFailedError", "namespace", "shell"]


class CodeFailedError(Exception):
    """The code given to ``shell -c`` raised; its error is the cause. The command ends with 1."""


def shell(
    db: Db = None,
    command: Annotated[str | None, typer.Option("--command", "-c", help="Run this code instead, then leave.")] = None,
) -> None:
    """Open Python with the models loaded and a session at hand; IPython where it is installed.

    What is not committed is rolled back at the end. Exit codes: 0 done; 1 the code raised; 2 no database was found.
    """
    found = find_databases(db)
    names = namespace(found)
    with ExitStack() as scopes:
        for item in found:
            scopes.enter_context(item.db())
        if command is not None:
            _execute(command, names)
        else:
            _interact(names, _banner(found, names))


def namespace(found: Sequence[FoundDatabase]) -> dict[str, Any]:
    """Return what the shell knows by name: SQLAlchemy's functions, the models, and the databases over all of them."""
    functions = ("delete", "func", "insert", "select", "text", "update")
    names: dict[str, Any] = {name: getattr(sqlalchemy, name) for name in functions}
    for item in found:
        for mapper in item.db.Base.registry.mappers:
            names.setdefault(mapper.class_.__name__, mapper.class_)
    names.update({item.name.rpartition(".")[2]: item.db for item in found})
    return names


def _execute(command: str, names: dict[str, Any]) -> None:
    scope = {"__name__": "__console__", **names}
    try:
        exec(compile(command, "<command>", "exec"), scope)  # noqa: S102 - the user's own code, asked for by name
    except Exception as error:
        raise CodeFailedError(f"{type(error).__name__}: {error}") from error


def _banner(found: Sequence[FoundDatabase], names: dict[str, Any]) -> str:
    models = sorted(name for name, value in names.items() if isinstance(value, type))
    lines = [f"{item.name}: {masked(item.db.url)}" for item in found]
    lines.append(f"Models: {', '.join(models) or 'none'}")
    lines.append(f"{found[0].name}.session.commit() keeps what you change.")
    return "\n".join(lines)


def _interact(names: dict[str, Any], banner: str) -> None:
    if importlib.util.find_spec("IPython") is None:
        code.interact(banner=banner, local=names, exitmsg="")
        return
    ipython: Any = importlib.import_module("IPython")
    typer.echo(banner)
    ipython.start_ipython(argv=["--no-banner"], user_ns=names)
