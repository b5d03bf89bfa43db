"""The commands by name: each is imported when it is called, as what one of them needs may take a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.main import get_command_from_info, get_group
from typer.models import CommandInfo

from .options import Group

__all__ = ["COMMANDS", "Commands", "Root"]

COMMANDS = {
    "new": ("new:new", "Make a project that runs, migrates and passes its tests."),
    "serve": ("serve:serve", "Serve the tables and views of a database as a REST API."),
    "routes": ("routes:routes", "List the routes with their session, login and owner."),
    "doctor": ("doctor:doctor", "Look for what is wrong with the databases, and tell the cure."),
    "load": ("transfer:load", "Load a CSV, NDJSON or JSON file into a table."),
    "dump": ("transfer:dump", "Write the rows of a table to a CSV, NDJSON or JSON file."),
    "seed": ("transfer:seed", "Put the rows in place that a database starts with."),
    "shell": ("shell:shell", "Open Python with the models loaded and a session at hand."),
    "admin": ("admin:app", "The accounts that open an admin."),
    "db": ("migrations:app", "Migrations of the project's databases."),
}
"""Of each command: the module beside this one and the name in it, and the line about it in the help."""


class Commands(Mapping[str, Any]):
    """The commands of `COMMANDS` as Typer makes them, each built once, when somebody asks for it."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            module, _, attribute = COMMANDS[name][0].partition(":")
            self._built[name] = _command(name, getattr(import_module(f".{module}", __package__), attribute))
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _command(name: str, target: Any) -> Any:
    if isinstance(target, typer.Typer):
        return get_group(target)
    return get_command_from_info(
        CommandInfo(name, callback=target), pretty_exceptions_short=False, rich_markup_mode=None
    )


class Root(Group):
    """The command itself, whose help imports none of those that it lists."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = Commands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])
