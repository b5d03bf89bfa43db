"""Brings the tables of a database up before tests are isolated from each other."""

from __future__ import annotations

from ..database import SQLAlchemy
from ..tables import create_tables

__all__ = ["prepare_tables"]


def prepare_tables(database: SQLAlchemy, *, own: bool) -> None:
    """Make the missing tables as an application does; where the database has ``migrations=``, check or run them.

    ``own`` says that the database was made for these tests, so that migrations run in any case.
    """
    if database.migrations is not None:
        SQLAlchemy.prepare(database, "upgrade" if own else database.migrations)
        return
    with database.source.begin() as connection:
        create_tables(connection, database.metadata, unless_migrated=True)
