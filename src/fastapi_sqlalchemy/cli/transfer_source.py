"""The database and the table that ``load``, ``dump`` and ``seed`` are asked for: by a URL, or the application's own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from ..database import SQLAlchemy
from ..discovery import import_object
from ..exceptions import ConfigurationError
from ..rest.narrowing import is_table
from .target import database_of, one_database

__all__ = ["Source", "opened"]


class Source:
    """A database whose tables are found by name; ``db`` is the application's own, or one for a URL."""

    def __init__(self, db: SQLAlchemy) -> None:
        self.db = db
        self.engine = db.engine

    def table(self, name: str | None, model: str | None) -> sa.Table:
        """The table of that name or model; raises `ConfigurationError` where there is none."""
        if (name is None) == (model is None):
            raise ConfigurationError("Name one of --table and --model.")
        if model is not None:
            return self._of_model(model)
        assert name is not None
        known = self.db.metadata.tables.get(name)
        if known is not None:
            return known
        schema, _, plain = name.rpartition(".")
        for schema_name, table_name in ((schema or None, plain), (None, name)):
            try:
                return sa.Table(
                    table_name, sa.MetaData(), schema=schema_name, autoload_with=self.engine, resolve_fks=False
                )
            except sa_exc.NoSuchTableError:
                continue
        raise ConfigurationError(f"There is no table {name!r} in this database.")

    def _of_model(self, model: str) -> sa.Table:
        found: Any = import_object(model) if ":" in model else None
        if found is None:
            named = [item.class_ for item in self.db.Base.registry.mappers if item.class_.__name__ == model]
            if len(named) != 1:
                known = ", ".join(sorted(item.class_.__name__ for item in self.db.Base.registry.mappers))
                raise ConfigurationError(f"There is no model {model!r}; the models are: {known or 'none'}.")
            found = named[0]
        table = getattr(found, "__table__", None)
        if not is_table(table):
            raise ConfigurationError(f"{model} is no model of one table.")
        return table


@contextmanager
def opened(url: str | None, db: str | None, *, write: bool) -> Generator[Source, None, None]:
    """The database of a URL, of ``--db``, or the one that the project has (see `discovery.find_databases`).

    ``write`` opens the file of a SQLite URL for writing. Raises `ConfigurationError` where none or several are found.
    """
    if url is not None and db is not None:
        raise ConfigurationError("Name one of --url and --db.")
    if url is not None:
        found = SQLAlchemy(database_of(url, write=write).url, sqlite={"journal_mode": None})
    else:
        found = one_database(db)
    try:
        yield Source(found)
    finally:
        found.dispose()
