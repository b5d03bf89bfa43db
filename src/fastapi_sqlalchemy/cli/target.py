"""The database that a command line names: a URL, or the path of a SQLite file that is there."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL

from ..config import masked, parse_url
from ..exceptions import ConfigurationError

__all__ = ["Database", "database_of"]


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
    return Database(url, masked(url))


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
