"""The options that several commands have, each written once."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

__all__ = ["Db", "Json"]

Db: TypeAlias = Annotated[
    str | None,
    typer.Option("--db", help='"module:variable" of the database; else pyproject.toml, else by looking.'),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
