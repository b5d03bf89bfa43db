"""The tables of the database against the models, and the migrations that wait."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import Connection

from ...discovery import project_root
from ...exceptions import ConfigurationError
from ...migrations.layout import INI
from ...migrations.runner import Migrations
from .finding import Finding, Patient, error, ok, reason, warning

__all__ = ["check_tables"]


def check_tables(patient: Patient, connection: Connection) -> Iterator[Finding]:
    """Find revisions that wait, and tables of the models that are not there."""
    ini = project_root() / INI
    pending: list[str] = []
    if ini.is_file():
        try:
            waiting = Migrations(ini, databases=[patient.found]).pending()
        except ConfigurationError as failure:
            yield error("migrations", f"{reason(failure)}.", f"Correct {INI}, or write it anew: db init.")
            return
        pending = [name for names in waiting.values() for name in names]
        if pending:
            yield error(
                "migrations",
                f"{len(pending)} wait, the first is {pending[0]}.",
                "Run fastapi-sqlalchemy db upgrade.",
            )
        else:
            yield ok("migrations", "The database is at head.")
    elif patient.db.migrations is not None:
        yield error(
            "migrations",
            f"migrations={patient.db.migrations!r} is set, and there is no {INI} in {ini.parent}.",
            "Run fastapi-sqlalchemy db init, or start from the folder that has it.",
        )
    inspector = sa.inspect(connection)
    missing = [
        table.fullname
        for table in patient.db.metadata.sorted_tables
        if not inspector.has_table(table.name, schema=table.schema)
    ]
    if missing and not pending:
        told = f"Not in the database: {', '.join(missing)}."
        if ini.is_file():
            yield error("tables", told, 'Run fastapi-sqlalchemy db revision --autogenerate -m "...", then db upgrade.')
        else:
            yield warning("tables", told, "db.lifespan and the middleware make them at the first start.")
    elif not missing and patient.db.metadata.tables:
        yield ok("tables", "Every table of the models is there.")
