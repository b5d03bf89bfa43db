"""``fastapi-sqlalchemy serve URL``: a REST API for a database that already exists."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from ..exceptions import ConfigurationError, MissingExtraError
from ..rest.postgrest import PREFIX
from ..web.requests import is_loopback
from .admin_access import admin_of
from .application import ServeSettings, create_app, read_database
from .collector import keep, paused
from .options import Db
from .report import progress_line, report
from .target import database_of, url_of

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["serve", "worker_app"]

_SETTINGS = "FASTAPI_SQLALCHEMY_SERVE"


def serve(
    url: Annotated[
        str | None,
        typer.Argument(help="A database URL, or the path of a SQLite file; else the project's.", metavar="URL"),
    ] = None,
    db: Db = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    write: Annotated[bool, typer.Option("--write", help="Let rows be created, changed and deleted.")] = False,
    tables: Annotated[str | None, typer.Option(help="The only tables and views to serve, comma separated.")] = None,
    exclude: Annotated[str | None, typer.Option(help="Tables and views to leave out, comma separated.")] = None,
    schema: Annotated[str | None, typer.Option(help="The schema, where it is not the default one.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="Add the admin: pages to look at and change rows.")] = False,
    postgrest: Annotated[
        bool, typer.Option("--postgrest", help="Add PostgREST's wire at /rest/v1, for clients such as supabase-js.")
    ] = False,
    no_login: Annotated[bool, typer.Option("--no-login", help="The admin without a login, on this machine.")] = False,
    token_env: Annotated[
        str | None, typer.Option(help="The environment variable with the bearer token that every request needs.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="How many processes.")] = 1,
) -> None:
    """Serve the tables and views of a database as a REST API, read-only and on this machine unless told otherwise."""
    settings = ServeSettings(
        target=url_of(url, db),
        host=host,
        write=write,
        tables=_names(tables),
        exclude=_names(exclude) or (),
        schema=schema,
        token_env=token_env,
        admin=admin,
        postgrest=postgrest,
        no_login=no_login,
    )
    if no_login and not (admin and is_loopback(host)):
        raise ConfigurationError(
            "--no-login is for --admin on this machine alone: a loopback address such as 127.0.0.1."
        )
    if settings.token is None and write and not is_loopback(host):
        raise ConfigurationError(
            f"--write on {host} needs a token: other machines could change the data. Name the environment variable "
            "that holds one with --token-env."
        )
    _run(settings, port, workers)


def worker_app() -> FastAPI:
    """The application of one of several processes, by the settings that the first one left in the environment."""
    given = json.loads(os.environ[_SETTINGS])
    tables = given.pop("tables")
    exclude = tuple(given.pop("exclude"))
    with paused():
        app = create_app(ServeSettings(**given, tables=None if tables is None else tuple(tables), exclude=exclude))
    keep()
    return app


def _run(settings: ServeSettings, port: int, workers: int) -> None:
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError(
            'serve needs uvicorn. Install it with: pip install "fastapi-sqlalchemy[serve]"'
        ) from None
    listener = _listener(settings.host, port)
    try:
        with paused():
            with progress_line(_label(settings)) as progress:
                found = read_database(settings, progress)
            admin = admin_of(settings, found[0].url) if settings.admin else None
            settings = settings if admin is None else admin.settings
            app = create_app(settings, found)
        keep()
        base = _base(listener)
        lines = [("PostgREST", f"{base}{PREFIX}")] if settings.postgrest else []
        lines += () if admin is None else admin.lines(app, base)
        report(found[0].label, found[1], base, str(app.docs_url), lines)
        if workers == 1:
            uvicorn.Server(uvicorn.Config(app, server_header=False)).run(sockets=[listener])
            return
        found[1].db.dispose()
        os.environ[_SETTINGS] = json.dumps(settings.as_dict())
        taken = listener.getsockname()[1]
        listener.close()  # the processes share a socket that uvicorn opens
        uvicorn.run(
            f"{__name__}:worker_app",
            factory=True,
            host=settings.host.strip("[]"),
            port=taken,
            workers=workers,
            server_header=False,
        )
    finally:
        listener.close()


def _label(settings: ServeSettings) -> str:
    return database_of(settings.target, write=settings.write).label


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens there; raises `ConfigurationError` where that cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"Nothing can listen on {host}: {error.strerror or error}.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"Nothing can listen on {host} port {port}: {error.strerror or error}.") from None
    listener.set_inheritable(True)
    return listener


def _base(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _names(given: str | None) -> tuple[str, ...] | None:
    """Names separated by commas; one that holds a comma has it doubled."""
    if given is None:
        return None
    names = [name.replace("\x00", ",").strip() for name in given.replace(",,", "\x00").split(",")]
    return tuple(name for name in names if name)
