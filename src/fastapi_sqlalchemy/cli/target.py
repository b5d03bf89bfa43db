"""The database that a command line names: a URL, the path of a SQLite file that is there, or the project's own."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL

from ..config import masked, parse_url
from ..database import SQLAlchemy
from ..discovery import find_databases
from ..exceptions import ConfigurationError

__all__ = ["Database", "database_of", "one_database", "url_of"]


class Database:
    """A database that is to be served: ``url`` opens it, ``label`` names it without its secrets."""

    def __init__(self, url: URL, label: str) -> None:
        self.url = url
        self.label = label

    @property
    def title(self) -> str:
        """A short name: that of the file, or of the database on its server."""
        name = str(self.url.database or self.url.host or self.url.drivername)
        return unquote(os.path.basename(name.removeprefix("file:"))) or self.label


def database_of(target: str, *, write: bool) -> Database:
    """Return the database that a URL or the path of a SQLite file names.

    A file is opened, never made: read-only unless ``write``. Raises `ConfigurationError` where there is no such file
    or driver.
    """
    if "://" not in target:
        return _file(target, write=write)
    url = parse_url(target)
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise ConfigurationError("A database in memory has nothing to serve; name a file.")
        if not str(url.database).startswith("file:"):
            return _file(str(url.database), write=write, label=masked(url))
    try:
        url.get_dialect()
    except sa_exc.NoSuchModuleError:
        raise ConfigurationError(
            f"There is no driver for {url.drivername}; use sqlite://, postgresql:// or mariadb://."
        ) from None
    if url.get_backend_name() in ("mysql", "mariadb") and not url.database:
        raise ConfigurationError(f"{masked(url)} names no database: {url.get_backend_name()}://user@host/database.")
    return Database(url, masked(url))


def one_database(db: str | None) -> SQLAlchemy:
    """Return the database of ``--db``, or the project's; raises `ConfigurationError` where there are several."""
    found = find_databases(db)
    if len(found) > 1:
        names = ", ".join(item.spec for item in found)
        raise ConfigurationError(f"The project has several databases; name one with --db: {names}.")
    return found[0].db


def url_of(given: str | None, db: str | None) -> str:
    """Return the URL or path that was given, else the URL of `one_database`, its password in it.

    Raises `ConfigurationError` where both are given, or neither and the project has no one database.
    """
    if given is not None and db is not None:
        raise ConfigurationError("Name the database by its URL or with --db, not both.")
    if given is not None:
        return given
    try:
        return one_database(db).url.render_as_string(hide_password=False)
    except ConfigurationError as error:
        if db is not None:
            raise
        raise ConfigurationError(f"{error} Or give the URL of a database, or the path of a SQLite file.") from error


def _file(path: str, *, write: bool, label: str | None = None) -> Database:
    if os.path.isdir(path):
        raise ConfigurationError(f"{path} is a directory; name the file of a SQLite database.")
    if not os.path.isfile(path):
        raise ConfigurationError(f"There is no file {path}.")
    if not os.access(path, os.R_OK):
        raise ConfigurationError(f"The file {path} cannot be read.")
    name = f"file:{quote(os.path.abspath(path))}"
    # https://www.sqlite.org/uri.html, 3.3: neither mode makes a file
    url = sa.URL.create("sqlite", database=name, query={"mode": "rw" if write else "ro", "uri": "true"})
    return Database(url, label or path)
