"""The application that ``serve`` runs: a start page, the routes of every table and view, their documentation."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Request, params
from fastapi.routing import APIRoute
from sqlalchemy import exc as sa_exc
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, Response

from ..admin import Admin
from ..database import SQLAlchemy
from ..exceptions import ConfigurationError
from ..rest import postgrest
from ..rest.diagram import diagram
from ..rest.narrowing import is_table
from ..rest.reflect import Reflection, reflect
from ..rest.resource import entity_of
from ..rest.row_counts import RowCounts
from ..rest.start_page import docs_page, page_response, start_page, svg_response
from ..web.problems import install_problem_handlers
from ..web.requests import is_loopback
from ..web.startup import describe_failure
from .collector import paused
from .target import Database, database_of
from .token import BearerToken

__all__ = ["TEMPORARY", "ServeSettings", "add_admin", "create_app", "read_database"]

_MAX_DRAWN = 150
_ICON = Path(__file__).parents[1] / "admin" / "static" / "admin" / "icon.svg"

TEMPORARY = "admin"
"""The name of the account that lives as long as the server."""


class ServedApp(FastAPI):
    """An application whose document may be that of hundreds of tables."""

    def openapi(self) -> dict[str, Any]:
        with paused():
            return super().openapi()


@dataclass(frozen=True)
class ServeSettings:
    """What to serve and to whom.

    ``token_env`` is the name of the variable that holds the bearer token; ``admin_hash`` the hash of the password of an
    account that lives as long as the server.
    """

    target: str
    host: str = "127.0.0.1"
    write: bool = False
    tables: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    schema: str | None = None
    token_env: str | None = None
    admin: bool = False
    postgrest: bool = False
    no_login: bool = False
    admin_hash: str | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        return asdict(self)

    @property
    def token(self) -> str | None:
        """The bearer token, or None where none was asked for; raises `ConfigurationError` where it is not set."""
        if self.token_env is None:
            return None
        value = os.environ.get(self.token_env, "").strip()
        if not value:
            raise ConfigurationError(f"--token-env {self.token_env}: the environment variable is not set, or empty.")
        return value


def read_database(
    settings: ServeSettings, progress: Callable[[str], None] | None = None
) -> tuple[Database, Reflection]:
    """Open the database and read its structure; raises what a user has to be told."""
    found = database_of(settings.target, write=settings.write)
    # the mode of the journal is a property of the file: somebody else's choice
    db = SQLAlchemy(found.url, sqlite={"journal_mode": None})
    try:
        reflection = reflect(
            db,
            schema=settings.schema,
            tables=settings.tables,
            exclude=settings.exclude,
            write=settings.write,
            progress=progress,
        )
    except sa_exc.DBAPIError as error:
        raise ConfigurationError(f"{found.label} cannot be read: {describe_failure(error)}") from error
    return found, reflection


def create_app(settings: ServeSettings, found: tuple[Database, Reflection] | None = None) -> FastAPI:
    """Return the application; ``found`` is what `read_database` returned, read again where it is not given."""
    database, reflection = found or read_database(settings)
    taken = {item.path for item in reflection.served}
    docs = _free("/docs", taken)
    document = _free("/openapi.json", taken)
    token = settings.token
    guard = None if token is None else BearerToken(token)
    dependencies: list[params.Depends] = [] if guard is None else [Depends(guard)]
    counts = RowCounts(database.url, reflection.served)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        yield
        for db in (reflection.db, counts.db, *(() if admin is None else (admin.store.db,))):
            await db.adispose()

    icon = _free("/favicon.ico", taken)
    app = ServedApp(
        title=database.title,
        description=f"{len(reflection.served)} tables and views of {database.label}.",
        version="1",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,  # there is no such login, and it may be the path of a row
        openapi_url=document,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    install_problem_handlers(app, reflection.metadata, http_errors=True)
    admin = add_admin(app, settings, reflection, database.title, _free("/admin", taken)) if settings.admin else None
    if guard is None and is_loopback(settings.host):
        # a page of another site may not reach the database by a name that it points at this machine (DNS rebinding)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", settings.host])
    drawn = [item.resource for item in reflection.served if item.resource is not None and not item.entry.is_view]
    picture = "/-/schema.svg" if 0 < len(drawn) <= _MAX_DRAWN else None

    @app.get("/", include_in_schema=False)
    async def start(request: Request) -> Response:
        seen = guard is None or guard.accepts(_bearer_of(request))
        page = start_page(
            database.title,
            reflection.served,
            reflection.skipped,
            await counts.read() if seen else None,
            docs=docs,
            document=document,
            diagram=picture,
            admin=None if admin is None else f"{admin.path}/",
            icon=icon,
            write=reflection.write,
        )
        return page_response(page)

    @app.get(icon, include_in_schema=False)
    async def favicon() -> Response:
        return FileResponse(_ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})

    @app.get(docs, include_in_schema=False)
    async def documentation(request: Request) -> Response:
        return docs_page(app, str(request.scope.get("root_path", "")).rstrip("/"), icon)

    if picture is not None:
        drawing: list[str] = []

        @app.get(picture, include_in_schema=False)
        async def schema() -> Response:
            if not drawing:
                tables: list[sa.Table] = [resource.table for resource in drawn if is_table(resource.table)]
                drawing.append(await anyio.to_thread.run_sync(diagram, tables))
            return svg_response(drawing[0])

    for router in reflection.routers(dependencies=dependencies):
        app.include_router(router)
    if settings.postgrest:  # after the paths of rows, which a table named rest may have there
        postgrest.mount(app, tables=reflection, dependencies=dependencies)
    return app


def add_admin(app: FastAPI, settings: ServeSettings, reflection: Reflection, title: str, path: str) -> Admin:
    """Put the admin on an application: every table and view that can be read, the others named with the reason."""
    readable = [item for item in reflection.served if item.resource is not None and item.problem is None]
    skipped = [(item.name, item.problem or "it has no columns") for item in reflection.served if item not in readable]
    served = {item.name for item in reflection.served}
    return Admin(
        app,
        db=reflection.db,
        auth=False if settings.no_login else "login",
        write=settings.write,
        path=path,
        title=title,
        resources=[item.resource for item in readable if item.resource is not None],
        names={entity_of(item.resource): item.name for item in readable if item.resource is not None},
        skipped=[*skipped, *(item for item in reflection.skipped if item.name not in served)],
        temporary=None if settings.admin_hash is None else (TEMPORARY, settings.admin_hash),
    )


def _bearer_of(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _free(path: str, taken: set[str]) -> str:
    """A path of our own, below ``/-`` where a table has its name."""
    return f"/-{path}" if path in taken else path


def _operation_id(route: APIRoute) -> str:
    """A name for each operation that no other has: what is neither letter nor digit is written by its code."""
    method = min(route.methods or {"GET"}).lower()
    path = re.sub(r"[^0-9A-Za-z]", lambda found: f"_{ord(found.group()):x}_", route.path.strip("/"))
    return f"{method}_{path}"
