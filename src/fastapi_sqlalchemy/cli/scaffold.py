"""Writes a new project from the templates beside this file, with its migrations set up and a first revision."""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import rev_id
from mako.lookup import TemplateLookup  # pyright: ignore[reportMissingTypeStubs]  # it has none

from ..database import SQLAlchemy
from ..discovery import FoundDatabase
from ..exceptions import ConfigurationError
from ..migrations.layout import INI, write_layout

__all__ = ["Project", "write_project"]

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")

_REVISION = ("imports", "upgrades", "downgrades")


@dataclass(frozen=True)
class Project:
    """What to write: the folder, whose name is that of the project, its layout, and which sessions its routes use."""

    folder: Path
    layout: Literal["flat", "domain"]
    asynchronous: bool
    version: str

    @property
    def name(self) -> str:
        """The name of the distribution."""
        return self.folder.name


def write_project(project: Project) -> list[Path]:
    """Write the files of a new project and return their paths.

    Raises `ConfigurationError` where the name is none that a distribution can have (the packaging specifications,
    "Names and normalization"), or the folder has something in it.
    """
    folder = project.folder
    if not _NAME.fullmatch(project.name):
        raise ConfigurationError(
            f"{project.name!r} is no name of a project: it has letters, digits, and between them -, _ or ."
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigurationError(f"The folder {folder} has something in it; name one that is empty or not there yet.")
    folder.mkdir(parents=True, exist_ok=True)
    written = [_write(project, source, part) for part in ("both", project.layout) for source in _sources(part)]
    written += write_layout(folder, [FoundDatabase("db", "app.database:db", SQLAlchemy())], "migrations", shared=False)
    written.append(_first_revision(folder))
    return sorted(written)


def _sources(part: str) -> list[Path]:
    return sorted((_TEMPLATES / part).rglob("*.mako"))


def _write(project: Project, source: Path, part: str) -> Path:
    lookup: Any = TemplateLookup([str(_TEMPLATES)], strict_undefined=True)  # Mako is there, Alembic needs it
    text: str = lookup.get_template(source.relative_to(_TEMPLATES).as_posix()).render_unicode(**_words(project))
    relative = source.relative_to(_TEMPLATES / part).with_suffix("")
    # a file whose name begins with a dot is easily lost on its way into a package
    target = project.folder / relative.parent / re.sub(r"^_(?!_)", ".", relative.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, "utf-8")
    return target


def _words(project: Project) -> dict[str, str]:
    word = re.sub(r"[^a-z0-9]+", "_", project.name.lower())
    return {
        "name": project.name,
        "version": project.version,
        "layout": project.layout,
        "image": word.replace("_", "-"),
        "database": word,
        "session": "AsyncSession" if project.asynchronous else "Session",
        "imports": "AsyncSession, ModelBase, SQLAlchemy" if project.asynchronous else "ModelBase, Session, SQLAlchemy",
        "get_session": "get_async_session" if project.asynchronous else "get_session",
        "define": "async def " if project.asynchronous else "def ",
        "wait": "await " if project.asynchronous else "",
    }


def _first_revision(folder: Path) -> Path:
    """Write the revision that makes the tables of the templates, as `db revision --autogenerate` would."""
    config = Config(str(folder / INI), cmd_opts=Namespace(quiet=True))
    texts: dict[str, Any] = {
        part: (_TEMPLATES / "parts" / f"{part}.txt").read_text("utf-8").strip() for part in _REVISION
    }
    made = ScriptDirectory.from_config(config).generate_revision(rev_id(), "authors and books", **texts)
    assert made is not None
    return Path(made.path)
