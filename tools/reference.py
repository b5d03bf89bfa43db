"""Writes ``docs/reference/command-line.md`` from the command itself: every command, argument and option it has.

``make reference`` writes the page; a test compares it with the command.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from fastapi_sqlalchemy.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"

INTRODUCTION = """# The command line: reference

What `fastapi-sqlalchemy COMMAND --help` says, on one page.
[How it is used](../how-to/command-line.md) is told elsewhere.
`python -m fastapi_sqlalchemy` is the same command.
"""


def page() -> str:
    """Return the text of the page."""
    root: Any = typer.main.get_command(app)
    return "\n".join([INTRODUCTION, *_options(root), *_commands(root, "fastapi-sqlalchemy")]).rstrip() + "\n"


def _commands(group: Any, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        arguments = "".join(f" {_shown(each)}" for each in command.params if each.param_type_name == "argument")
        yield f"## `{prefix} {name}{arguments}`\n"
        yield " ".join(line.strip() for line in (command.help or "").replace("\b", "").splitlines()).strip() + "\n"
        yield from _options(command)
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix} {name}")


def _options(command: Any) -> Iterator[str]:
    rows = [_row(each) for each in command.params if not getattr(each, "hidden", False)]
    if rows:
        yield "| argument or option | default | what it does |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _row(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else [_shown(parameter)]
    default = parameter.default
    is_given = default is not None and isinstance(default, (str, int, float)) and not isinstance(default, bool)
    shown = f"`{default}`" if is_given and default != "" else ""
    what = (getattr(parameter, "help", None) or "").replace("|", "\\|").replace("\n", " ")
    return f"| {', '.join(f'`{name}`' for name in names)} | {shown} | {what} |"


def _shown(argument: Any) -> str:
    name = (argument.metavar or argument.name or "").strip("[]{}").upper()
    return name if argument.required else f"[{name}]"


if __name__ == "__main__":
    PAGE.write_text(page())
