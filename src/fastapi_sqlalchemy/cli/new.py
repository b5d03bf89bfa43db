"""``fastapi-sqlalchemy new NAME``: a project to start from, which passes its own tests at once."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .scaffold import Project, write_project
from .table import print_line

__all__ = ["Layout", "new"]


class Layout(StrEnum):
    """How the modules of a project are arranged."""

    FLAT = "flat"
    DOMAIN = "domain"


def new(
    name: Annotated[str, typer.Argument(help="The name of the project, or the path of its folder.", metavar="NAME")],
    layout: Annotated[
        Layout, typer.Option("--layout", help="flat: models.py, routers.py; domain: a package for each domain.")
    ] = Layout.FLAT,
    asynchronous: Annotated[
        bool, typer.Option("--async/--sync", help="Routes with async sessions, or def routes.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Make a project: settings, database, models, routes, migrations, tests, Dockerfile."""
    folder = Path(os.path.abspath(name))
    written = write_project(Project(folder, layout.value, asynchronous, version("fastapi-sqlalchemy")))
    files = [path.relative_to(folder).as_posix() for path in written]
    if as_json:
        sys.stdout.write(json.dumps({"folder": str(folder), "files": files}, indent=2) + "\n")
        return
    for line in (
        f"{os.path.relpath(folder)}: {len(files)} files. README.md says what is where. Next:",
        f"  cd {os.path.relpath(folder)}",
        '  pip install --upgrade "pip>=25.1"',
        "  pip install -e . --group dev",
        "  pytest",
        "  fastapi-sqlalchemy db upgrade",
        "  uvicorn app.main:app --reload",
    ):
        print_line(sys.stdout, line)
