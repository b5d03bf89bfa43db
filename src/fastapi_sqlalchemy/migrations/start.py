"""What `db.lifespan` does about migrations: require that the database is at head, or bring it there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from ..database import SQLAlchemy
from ..discovery import FoundDatabase, find_databases, project_root
from ..exceptions import ConfigurationError, MigrationsPendingError
from .layout import INI, sections_of
from .runner import Migrations

__all__ = ["prepare_database"]

logger = logging.getLogger("fastapi_sqlalchemy")


def prepare_database(db: SQLAlchemy, mode: Literal["check", "upgrade"], folder: Path | None = None) -> None:
    """Raise `MigrationsPendingError` unless the database is at head ("check"), or bring it there ("upgrade").

    ``folder`` holds alembic.ini; by default the root of the project.
    """
    ini = (folder or project_root()) / INI
    section, found = _follows(ini, db)
    migrations = Migrations(ini, databases=[found], only=section)
    if mode == "upgrade":
        for step in migrations.upgrade():
            logger.info("Applied the migration %s: %s", step.revision, step.message)
        return
    pending = [name for names in migrations.pending().values() for name in names]
    if pending:
        raise MigrationsPendingError(
            f"Migrations that wait for the database: {len(pending)}, the first is {pending[0]}. "
            "Run: fastapi-sqlalchemy db upgrade."
        )


def _follows(ini: Path, db: SQLAlchemy) -> tuple[str | None, FoundDatabase]:
    """The section of alembic.ini that the database follows, and how it is called there."""
    sections = sections_of(ini)
    if len(sections) == 1 and not next(iter(sections.values())).shared:
        return None, FoundDatabase("db", "db", db)
    for name, section in sections.items():
        for item in find_databases(section.specs, folder=ini.parent):
            if item.db is db:
                return name, item
    raise ConfigurationError(f"No section of {ini} names this database.")
