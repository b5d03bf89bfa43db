"""The files of migrations: ``alembic.ini``, ``env.py``, the template of a revision; written once by ``db init``."""

from __future__ import annotations

import configparser
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..discovery import FoundDatabase
from ..exceptions import ConfigurationError

__all__ = ["INI", "Section", "sections_of", "write_layout"]

INI = "alembic.ini"

_ENV = '''"""Alembic's environment, made by fastapi-sqlalchemy; add to it what your migrations need."""

from fastapi_sqlalchemy.migrations import run_env

run_env()
'''

_SCRIPT = '''"""${message}

Revision: ${up_revision}
Follows: ${down_revision | comma,n}
Made: ${create_date}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


'''

_ONE = """def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
"""

_SHARED = """def upgrade(engine_name: str) -> None:
    globals()[f"upgrade_{engine_name}"]()


def downgrade(engine_name: str) -> None:
    globals()[f"downgrade_{engine_name}"]()
<% names = [part.strip().rpartition(":")[2] for part in config.get_main_option("databases").split(",")] %>
% for name in names:

def upgrade_${name}() -> None:
    ${context.get(f"{name}_upgrades", "pass")}


def downgrade_${name}() -> None:
    ${context.get(f"{name}_downgrades", "pass")}

% endfor
"""

_SECTION = """[{section}]
{database}
script_location = %(here)s/{folder}
file_template = %%(year)d_%%(month).2d_%%(day).2d_%%(hour).2d%%(minute).2d_%%(slug)s_%%(rev)s
timezone = UTC
prepend_sys_path = .
path_separator = os
"""

_HEAD = """# Made by `fastapi-sqlalchemy db init`. The URL is not here: it is that of the database object.
# The alembic command works too: {command}

"""


class Section(NamedTuple):
    """A history in alembic.ini: how its databases are imported, and whether several share it."""

    specs: str
    shared: bool


def sections_of(ini: Path) -> dict[str, Section]:
    """Return the histories of an alembic.ini by the names of their sections.

    Raises `ConfigurationError` where there is no such file, or it cannot be read.
    """
    if not ini.is_file():
        raise ConfigurationError(
            f"There is no {ini.name} in {ini.parent}. Set migrations up: fastapi-sqlalchemy db init."
        )
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(ini, "utf-8")
    except configparser.Error as error:
        raise ConfigurationError(f"{ini} cannot be read: {' '.join(str(error).split())}") from None
    found: dict[str, Section] = {}
    for name in parser.sections():
        if parser.has_option(name, "script_location"):
            shared = parser.has_option(name, "databases")
            found[name] = Section(parser.get(name, "databases" if shared else "db", fallback=""), shared)
    return found


def write_layout(root: Path, databases: Sequence[FoundDatabase], folder: str, *, shared: bool) -> list[Path]:
    """Write the files for the databases into ``root`` and return them; nothing that exists is overwritten.

    One database, or several with a ``shared`` history, have ``folder``; otherwise each has a folder of its name in it.
    Raises `ConfigurationError` where there is an alembic.ini, or a folder with something in it.
    """
    ini = root / INI
    if ini.exists():
        raise ConfigurationError(f"There is an {INI} in {root} already; migrations are set up.")
    one = len(databases) == 1
    if one or shared:
        names = ", ".join(item.spec for item in databases)
        line = f"db = {names}" if one else f"databases = {names}"
        sections = {"alembic": (line, folder)}
    else:
        sections = {item.name: (f"db = {item.spec}", f"{folder}/{item.name}") for item in databases}
    for _, place in sections.values():
        if (root / place).exists() and any((root / place).iterdir()):
            raise ConfigurationError(f"The folder {place} has something in it; choose another with --directory.")
    written: list[Path] = []
    for _, place in sections.values():
        written += _write_folder(root / place, shared=shared and not one)
    command = "alembic upgrade head" if one or shared else f"alembic -n {next(iter(sections))} upgrade head"
    texts = [
        _SECTION.format(section=section, database=line, folder=place) for section, (line, place) in sections.items()
    ]
    ini.write_text(_HEAD.format(command=command) + "\n".join(texts), "utf-8")
    return [ini, *written]


def _write_folder(folder: Path, *, shared: bool) -> list[Path]:
    (folder / "versions").mkdir(parents=True)
    env, script = folder / "env.py", folder / "script.py.mako"
    env.write_text(_ENV, "utf-8")
    script.write_text(_SCRIPT + (_SHARED if shared else _ONE), "utf-8")
    keep = folder / "versions" / ".gitkeep"
    keep.touch()
    return [env, script, keep]
