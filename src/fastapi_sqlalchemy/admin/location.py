"""Where the store of an admin is, unless told: a SQLite file of its own in the user's configuration folder."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import URL

from ..config import parse_url

__all__ = ["VARIABLE", "default_store", "private_file", "store_url"]

VARIABLE = "FASTAPI_SQLALCHEMY_ADMIN_STORE"
"""The environment variable that names the store, a URL or the path of a SQLite file."""


def store_url(given: str | URL | None, database: URL) -> URL:
    """Return the URL of the store: as given, as the environment says, else the file that belongs to ``database``."""
    chosen = given or os.environ.get(VARIABLE) or default_store(database)
    if isinstance(chosen, str) and "://" not in chosen:
        chosen = Path(chosen)
    if isinstance(chosen, Path):
        return URL.create("sqlite", database=str(chosen.expanduser().absolute()))
    return parse_url(chosen)


def default_store(database: URL) -> Path:
    """Return the file that holds the accounts for one database: told apart by its address, never by its password."""
    name = str(database.database or database.host or "database")
    if database.get_backend_name() == "sqlite":
        is_address = name.startswith("file:")  # https://www.sqlite.org/uri.html
        name = os.path.abspath(unquote(name.removeprefix("file:").partition("?")[0]) if is_address else name)
    address = "|".join(map(str, (database.get_backend_name(), database.host or "", database.port or "", name)))
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")[:40] or "database"
    return _folder() / f"admin-{stem}-{hashlib.sha256(address.encode()).hexdigest()[:12]}.db"


def private_file(path: Path) -> None:
    """Make a file that only its owner can read, and the folder that holds it, where they are not there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("APPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Roaming") / "fastapi-sqlalchemy"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "fastapi-sqlalchemy"
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "fastapi-sqlalchemy"
