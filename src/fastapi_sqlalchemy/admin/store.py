"""What an admin keeps: accounts, sessions, failed logins and the changes that were made, in a database of its own."""

from __future__ import annotations

import datetime as dt
import functools
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL

from ..database import SQLAlchemy
from ..exceptions import ConfigurationError
from ..sessions import Session
from ..tables import create_tables
from .location import VARIABLE, private_file, store_url

__all__ = ["AdminStore", "accounts", "attempts", "changes", "now", "sessions"]

T = TypeVar("T")

_metadata = sa.MetaData()

accounts = sa.Table(
    "fastapi_sqlalchemy_admin_account",
    _metadata,
    sa.Column("name", sa.String(150), primary_key=True),
    sa.Column("password_hash", sa.String(300), nullable=False),
    sa.Column("changed_at", sa.DateTime, nullable=False),
)
sessions = sa.Table(
    "fastapi_sqlalchemy_admin_session",
    _metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("account", sa.String(150), nullable=False, index=True),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("seen_at", sa.DateTime, nullable=False),
)
attempts = sa.Table(
    "fastapi_sqlalchemy_admin_attempt",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("account", sa.String(64), nullable=False, index=True),
    sa.Column("address", sa.String(100), nullable=False, index=True),
    sa.Column("at", sa.DateTime, nullable=False),
)
changes = sa.Table(
    "fastapi_sqlalchemy_admin_change",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.DateTime, nullable=False),
    sa.Column("account", sa.String(150), nullable=False),
    sa.Column("address", sa.String(100), nullable=False),
    sa.Column("action", sa.String(20), nullable=False),
    sa.Column("resource", sa.String(200), nullable=False),
    sa.Column("row", sa.String(500), nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("outcome", sa.String(20), nullable=False),
)
_settings = sa.Table(
    "fastapi_sqlalchemy_admin_setting",
    _metadata,
    sa.Column("name", sa.String(50), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
)


class AdminStore:
    """The store of an admin: a database that several processes may share.

    ``given`` is a URL, or the path of a SQLite file; without it, the environment variable
    ``FASTAPI_SQLALCHEMY_ADMIN_STORE`` or a file in the user's configuration folder, one for each ``database``.
    The file and its folder can be read by their owner only.
    """

    def __init__(self, given: str | URL | None, database: URL) -> None:
        self.url = store_url(given, database)
        self.db = SQLAlchemy(self.url)

    @functools.cached_property
    def secret(self) -> str:
        """The key that signs cookies, made with the store; the same in every process."""
        with self.db.source.begin() as connection:
            found = connection.scalar(sa.select(_settings.c.value).where(_settings.c.name == "secret"))
        return str(found)

    def prepare(self) -> None:
        """Make the file, the tables and the secret, where they are not there."""
        if self.url.get_backend_name() == "sqlite" and self.url.database not in (None, "", ":memory:"):
            try:
                private_file(Path(str(self.url.database)))
            except OSError as error:
                raise ConfigurationError(
                    f"The store of the admin cannot be made at {self.url.database}: {error.strerror or error}. Name "
                    f"another place with {VARIABLE}, or with Admin(store=...)."
                ) from error
        with self.db.source.begin() as connection:
            create_tables(connection, _metadata)
        try:
            with self.db.source.begin() as connection:
                if connection.scalar(sa.select(_settings.c.name).where(_settings.c.name == "secret")) is None:
                    connection.execute(sa.insert(_settings).values(name="secret", value=secrets.token_hex(32)))
        except sa_exc.IntegrityError:  # another process was first
            pass
        assert self.secret

    async def run(self, work: Callable[[Session], T], *, read_only: bool = False) -> T:
        """Do some work on the store, off the event loop, and commit it."""
        return await self.db.run(work, read_only=read_only, use_async=False)

    def run_sync(self, work: Callable[[Session], T]) -> T:
        """The same for a command."""
        with self.db(commit_on_exit=True):
            return work(self.db.session)

    @staticmethod
    def take_turn(session: Session) -> None:
        """Let the transaction be the only one that counts guesses, until its end and in all processes.

        SQLite has one writer anyway; the others lock a row.
        """
        session.execute(sa.select(_settings.c.name).where(_settings.c.name == "secret").with_for_update()).all()

    def __repr__(self) -> str:
        return f"<AdminStore {self.url!r}>"


def now() -> dt.datetime:
    """Return the time as the store has it: UTC, without offset."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
