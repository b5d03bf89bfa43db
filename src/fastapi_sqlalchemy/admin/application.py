"""`Admin`: the admin of an application, built of its models when the first request comes."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import FastAPI
from sqlalchemy.engine import URL
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ..database import SQLAlchemy
from ..exceptions import ConfigurationError
from ..rest.resource import Resource, ResourceRegistry, resource_for
from .accounts import Accounts
from .extra import require_extra
from .store import AdminStore

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["Admin"]

Authenticate = Callable[[Request], "str | Awaitable[str | None] | None"]


class Admin:
    """Pages to look at, search, filter, export and, with ``write``, change the rows of every model.

    ``Admin(app, db=db)`` mounts it at ``path``. Nobody gets in without a login: accounts are made with
    ``fastapi-sqlalchemy admin create-user``, and kept in ``store`` (a URL, or the path of a SQLite file; see
    `AdminStore`). ``auth`` is "login"; or a function, plain or async, that is given the request and returns the name
    of who sent it, or None to refuse, for applications that know their users; or False, for no login at all: then
    only this machine is answered, by one of its own names and past no proxy.

    ``models`` are mapped classes or tables, by default all of ``db.Base``; ``exclude`` and ``expose`` name fields of
    them, as in `CRUDRouter`: ``{User: ["notes"]}``; ``labels`` the fields that name a row: ``{User: "email"}``.
    ``resources`` and ``skipped`` are for reflected databases. ``temporary`` is one more account, name and hash.

    Raises `MissingExtraError` where the extra is not installed, `ConfigurationError` for values that cannot be.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        db: SQLAlchemy,
        auth: str | bool | Authenticate = "login",
        write: bool = False,
        models: Iterable[Any] | None = None,
        exclude: Mapping[Any, Iterable[str]] | None = None,
        expose: Mapping[Any, Iterable[str]] | None = None,
        labels: Mapping[Any, Any] | None = None,
        path: str = "/admin",
        title: str = "Admin",
        store: str | URL | None = None,
        resources: Sequence[Resource] | None = None,
        names: Mapping[Any, str] | None = None,
        skipped: Sequence[tuple[str, str]] = (),
        temporary: tuple[str, str] | None = None,
    ) -> None:
        require_extra()
        if not path.startswith("/") or path.endswith("/"):
            raise ConfigurationError(
                f"The path of the admin starts with a slash and does not end with one, not {path!r}."
            )
        if auth not in ("login", False) and not callable(auth):
            raise ConfigurationError('auth is "login", a function that names who sent a request, or False.')
        self.db = db
        self.auth = auth
        self.write = write
        self.path = path
        self.title = title
        self.skipped = list(skipped)
        self._given = (
            models,
            dict(exclude or {}),
            dict(expose or {}),
            dict(labels or {}),
            resources,
            dict(names or {}),
        )
        self._store_given = store
        self._temporary = temporary
        self._built: Guard | None = None
        self._routes: list[BaseRoute] = []
        self._lock = threading.Lock()
        self._store: AdminStore | None = None
        app.router.add_route(path, _with_slash, include_in_schema=False)
        app.mount(path, self, name="admin")

    @property
    def store(self) -> AdminStore:
        """Where accounts, sessions and the log of changes are kept."""
        if self._store is None:
            self._store = AdminStore(self._store_given, self.db.url)
        return self._store

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes of the admin, once it has served a request."""
        return self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        if self._built is None:
            await anyio.to_thread.run_sync(self._build_once)
            assert self._built is not None
        root = str(scope.get("root_path", ""))
        # addresses are made by the routes of the admin alone, wherever the application itself is mounted
        outside = root.removesuffix(self.path)
        inner = {**scope, "router": self._router, "app_root_path": outside}
        if not f"{scope['path']}/".startswith(f"{root}/"):  # a proxy took the prefix off (ASGI: the path has it)
            inner["path"] = outside + scope["path"]
        await self._built(inner, receive, send)

    def _build_once(self) -> None:
        with self._lock:
            if self._built is None:
                self._built = self._build()

    def _build(self) -> Guard:
        from .changes import Changes
        from .guard import Guard
        from .login import LoginProvider
        from .sessions import Sessions
        from .site import Site, views_of

        self.store.prepare()
        models, exclude, expose, labels, resources, names = self._given
        if resources is None:
            resources = _resources_of(self.db, models, exclude, expose)
        temporary = None if self._temporary is None else self._temporary[0]
        sessions, changes = Sessions(self.store, temporary), Changes(self.store)
        accounts = Accounts(self.store, self._temporary) if self.auth == "login" else None
        site = Site(
            title=self.title,
            path=self.path,
            secret=self.store.secret,
            provider=LoginProvider(accounts, sessions),
            views=views_of(self.db, resources, labels=labels, names=names, write=self.write),
            skipped=self.skipped,
            changes=changes,
            write=self.write,
        )
        pages = site.application()
        self._routes = list(pages.routes)
        self._router = Router(routes=[Mount(self.path, pages, name=site.route_name)])
        return Guard(
            _Scoped(pages, self.db, write=self.write),
            secret=self.store.secret,
            sessions=sessions,
            changes=changes,
            authenticate=_awaited(self.auth) if callable(self.auth) else None,
            open_to_all=self.auth is False,
        )


async def _with_slash(request: Request) -> Response:
    return RedirectResponse(f"{request.url.path}/", 307)


class _Scoped:
    """One session for each request, which cannot write unless a change was sent."""

    def __init__(self, app: ASGIApp, db: SQLAlchemy, *, write: bool) -> None:
        self.app = app
        self.db = db
        self.write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exporting = QueryParams(scope.get("query_string", b"")).get("name") == "export"
        changing = self.write and scope["method"] == "POST" and not exporting
        opened = self.db.open_scope(commit_on_exit=False, writing=changing, read_only=not changing, awaitable=True)
        opened.push()
        clean = False
        try:
            await self.app(scope, receive, send)
            clean = True
        finally:
            try:
                await opened.complete_async(clean=clean)
            finally:
                opened.pop()
                await opened.close_async()


def _resources_of(
    db: SQLAlchemy,
    models: Iterable[Any] | None,
    exclude: Mapping[Any, Iterable[str]],
    expose: Mapping[Any, Iterable[str]],
) -> list[Resource]:
    """The resources of the models, each of which a relation may lead to."""
    registry = ResourceRegistry(closed=True)
    chosen = _models_of(db) if models is None else list(models)
    unknown = [item for item in (*exclude, *expose) if item not in chosen]
    if unknown:
        raise ConfigurationError(f"{unknown[0]!r} is not among the models of the admin.")
    found = [
        resource_for(item, exclude=exclude.get(item, ()), expose=expose.get(item, ()), registry=registry)
        for item in chosen
    ]
    for resource in found:
        registry.declare(resource)
    return found


def _models_of(db: SQLAlchemy) -> list[Any]:
    """The models of ``db.Base``, and the tables of its metadata that no model has."""
    mappers = list(db.Base.registry.mappers)
    mapped = {table for mapper in mappers for table in mapper.tables}
    plain = [table for table in db.metadata.tables.values() if table not in mapped]
    return [mapper.class_ for mapper in mappers] + plain


def _awaited(function: Callable[[Request], Any]) -> Callable[[Request], Awaitable[str | None]]:
    async def call(request: Request) -> str | None:
        found = function(request)
        if inspect.isawaitable(found):
            found = await found
        return None if not found else str(found)

    return call
