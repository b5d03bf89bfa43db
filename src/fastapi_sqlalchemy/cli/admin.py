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

__all__ = ["app"]

app = typer.Typer(help="The accounts that open an admin.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The name of the account.", metavar="NAME")]
Database = Annotated[
    str | None,
    typer.Argument(
        help="The database behind the admin, a URL or a SQLite file; else DATABASE_URL.", metavar="DATABASE"
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
    name: Name, database: Database = None, store: Store = None, password_env: PasswordVariable = None
) -> None:
    """Make an account."""
    accounts = _accounts(database, store)
    accounts.create(name, _password(password_env))
    _say(f"{name} can log in now. Accounts are kept in {_place(accounts)}")


@app.command("set-password")
def set_password(
    name: Name, database: Database = None, store: Store = None, password_env: PasswordVariable = None
) -> None:
    """Change a password, which ends the sessions of the account."""
    accounts = _accounts(database, store)
    accounts.set_password(name, _password(password_env))
    _say(f"The password of {name} is changed, and its sessions are ended.")


@app.command("delete-user")
def delete_user(name: Name, database: Database = None, store: Store = None) -> None:
    """Delete an account, which ends its sessions."""
    _accounts(database, store).delete(name)
    _say(f"{name} is deleted.")


@app.command("list-users")
def list_users(database: Database = None, store: Store = None) -> None:
    """Print the names of the accounts."""
    accounts = _accounts(database, store)
    for name in accounts.names():
        _say(name)


def _accounts(database: str | None, store: str | None) -> Accounts:
    require_extra()
    found = AdminStore(store, _url(database, store))
    found.prepare()
    return Accounts(found)


def _url(database: str | None, store: str | None) -> URL:
    if database is None and store is not None:
        return URL.create("sqlite")
    given = DatabaseConfig.url_from_environment() if database is None else database
    if given is None:
        raise ConfigurationError("Name the database behind the admin, or its store with --store, or set DATABASE_URL.")
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
