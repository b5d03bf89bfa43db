"""``fastapi-sqlalchemy admin``: the accounts that open an admin."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from sqlalchemy.engine import URL

from ..admin import Accounts, AdminStore
from ..admin.extra import require_extra
from ..config import DatabaseConfig, parse_url
from ..exceptions import ConfigurationError
from .options import Db, Group
from .target import url_of

__all__ = ["app"]

app = typer.Typer(help="The accounts that open an admin.", cls=Group, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The name of the account.", metavar="NAME")]
Database = Annotated[
    str | None,
    typer.Argument(
        help="The database behind the admin, a URL or a SQLite file; else --db, DATABASE_URL, the project's.",
        metavar="DATABASE",
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        help="Where accounts are kept, a URL or a SQLite file; else FASTAPI_SQLALCHEMY_ADMIN_STORE, else a "
        "file in your configuration folder."
    ),
]
PasswordVariable = Annotated[
    str | None, typer.Option("--password-env", help="The environment variable with the password; else it is asked for.")
]


@app.command("create-user")
def create_user(
    name: Name,
    database: Database = None,
    db: Db = None,
    store: Store = None,
    password_env: PasswordVariable = None,
) -> None:
    """Make an account."""
    accounts = _accounts(database, db, store)
    accounts.create(name, _password(password_env))
    _say(f"{name} can log in now. Accounts are kept in {_place(accounts)}")


@app.command("set-password")
def set_password(
    name: Name,
    database: Database = None,
    db: Db = None,
    store: Store = None,
    password_env: PasswordVariable = None,
) -> None:
    """Change a password, which ends the sessions of the account."""
    accounts = _accounts(database, db, store)
    accounts.set_password(name, _password(password_env))
    _say(f"The password of {name} is changed, and its sessions are ended.")


@app.command("delete-user")
def delete_user(name: Name, database: Database = None, db: Db = None, store: Store = None) -> None:
    """Delete an account, which ends its sessions."""
    _accounts(database, db, store).delete(name)
    _say(f"{name} is deleted.")


@app.command("list-users")
def list_users(database: Database = None, db: Db = None, store: Store = None) -> None:
    """Print the names of the accounts."""
    accounts = _accounts(database, db, store)
    for name in accounts.names():
        _say(name)


def _accounts(database: str | None, db: str | None, store: str | None) -> Accounts:
    require_extra()
    found = AdminStore(store, _url(database, db, store))
    found.prepare()
    return Accounts(found)


def _url(database: str | None, db: str | None, store: str | None) -> URL:
    if database is None and db is None:
        if store is not None:
            return URL.create("sqlite")
        database = DatabaseConfig.url_from_environment()
    given = url_of(database, db)
    return parse_url(given) if "://" in given else URL.create("sqlite", database=given)


def _place(accounts: Accounts) -> str:
    url = accounts.store.url
    return str(url.database) if url.get_backend_name() == "sqlite" else repr(url)


def _password(variable: str | None) -> str:
    """The password, never from the command line, where other users could read it."""
    if variable is not None:
        found = os.environ.get(variable)
        if not found:
            raise ConfigurationError(f"--password-env {variable}: the environment variable is not set, or empty.")
        return found
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer


def _say(text: str) -> None:
    typer.echo(text)
