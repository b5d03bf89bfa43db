"""The options that several commands have, each written once."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

__all__ = ["Db", "Group", "Json"]

Db: TypeAlias = Annotated[
    str | None,
    typer.Option("--db", help='"module:variable" of the database; else pyproject.toml, else by looking.'),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


class Group(TyperGroup):
    """Commands under one name; the name alone shows its help, and ends with 2 as it asks for nothing."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)
