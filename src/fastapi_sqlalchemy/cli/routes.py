"""``fastapi-sqlalchemy routes``: the routes of an application, and by which door each has its session."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Annotated, Any

import fastapi.routing
import typer
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.security.base import SecurityBase
from starlette.routing import BaseRoute, Mount, WebSocketRoute

from ..database import SQLAlchemy
from ..discovery import find_app
from ..rest.route import CRUDEndpoint, CRUDRoute
from ..web import dependencies as session_dependencies
from ..web.middleware import DBSessionMiddleware
from .options import Json
from .table import print_line, print_table

__all__ = ["RouteLine", "routes", "routes_of"]


@dataclass(frozen=True)
class RouteLine:
    """What is told of one route.

    ``session`` is the door: "CRUDRouter", "dependency" with what it is besides, "middleware", "lifespan" (which puts
    the middleware around the application) or None. ``login`` names the security schemes that its dependencies ask,
    ``owner`` the ``scope_query`` that says whose rows are seen.
    """

    methods: tuple[str, ...]
    path: str
    endpoint: str
    session: str | None
    response_model: str | None
    login: tuple[str, ...]
    owner: str | None


def routes(
    app: Annotated[
        str | None,
        typer.Argument(
            help='"module:variable" of the application or of a function that makes it; else pyproject.toml, else by '
            "looking.",
            metavar="APP",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the routes that the documentation does not show.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the routes with their endpoint, session, response model, login and owner."""
    spec, found = find_app(app)
    lines = routes_of(found, everything=everything)
    if as_json:
        sys.stdout.write(json.dumps({"app": spec, "routes": [asdict(line) for line in lines]}, indent=2) + "\n")
        return
    header = ("Methods", "Path", "Session", "Response model", "Login", "Owner", "Endpoint")
    cells = [
        (
            " ".join(line.methods),
            line.path,
            line.session or "-",
            line.response_model or "-",
            ", ".join(line.login) or "-",
            line.owner or "-",
            line.endpoint,
        )
        for line in lines
    ]
    if not lines:
        print_line(sys.stdout, f"{spec} has no routes.")
        return
    print_table(sys.stdout, spec, header, cells)


def routes_of(app: FastAPI, *, everything: bool = False) -> list[RouteLine]:
    """Return the routes of an application in the order in which they are asked, those of mounted ones included.

    HEAD stands with GET. ``everything`` adds what is not in the OpenAPI document, except the answers for wrong methods.
    """
    found: dict[tuple[str, str], RouteLine] = {}
    for line in _lines(app, "", everything):
        key = (line.path, line.endpoint)
        known = found.get(key)
        if known is not None:
            methods = (*known.methods, *(name for name in line.methods if name not in known.methods))
            line = replace(known, methods=methods)
        found[key] = line
    return list(found.values())


def _lines(app: FastAPI, prefix: str, everything: bool) -> Iterator[RouteLine]:
    door = _door_of(app)
    shown: set[str] = set()
    for route in _effective(app.routes):
        original: Any = getattr(route, "original_route", route)
        path = f"{prefix}{getattr(route, 'path', '')}"
        if isinstance(original, Mount):
            yield from _mounted(original, path, everything)
            continue
        is_crud = isinstance(original, CRUDRoute)
        in_schema = isinstance(original, WebSocketRoute) or bool(getattr(route, "include_in_schema", False))
        if is_crud and not isinstance(original.endpoint, CRUDEndpoint):
            continue  # it answers 405
        if in_schema:
            shown.add(path)
        if in_schema or everything or (is_crud and path in shown):
            yield _line(route, original, path, door)


def _effective(routes: Sequence[BaseRoute]) -> Sequence[Any]:
    """The routes as requests meet them: what `include_router` adds is in them.

    An older FastAPI copies the routes of an included router instead of keeping the router.
    """
    resolve: Callable[[Sequence[BaseRoute]], Iterator[Any]] | None = getattr(
        fastapi.routing, "iter_route_contexts", None
    )
    return routes if resolve is None else list(resolve(routes))


def _mounted(mount: Mount, path: str, everything: bool) -> Iterator[RouteLine]:
    inner: Any = mount.app
    if isinstance(inner, FastAPI):
        yield from _lines(inner, path.rstrip("/"), everything)
    else:
        yield RouteLine(("MOUNT",), path, _name_of(inner), None, None, (), None)


def _line(route: Any, original: Any, path: str, door: str | None) -> RouteLine:
    endpoint: Any = original.endpoint
    dependant: Dependant | None = getattr(route, "dependant", None)
    needed = [] if dependant is None else list(_below(dependant))
    methods = ("WEBSOCKET",) if isinstance(original, WebSocketRoute) else tuple(sorted(route.methods or ()))
    model = getattr(route, "response_model", None)
    is_crud = isinstance(endpoint, CRUDEndpoint)
    owners = [item.call for item in dependant.dependencies if item.name == "scope"] if is_crud and dependant else []
    return RouteLine(
        methods=methods,
        path=path,
        endpoint=str(original.name) if is_crud else _name_of(endpoint),
        session="CRUDRouter" if is_crud else _session_of(needed) or door,
        response_model=None if model is None else _name_of(model),
        login=_schemes(needed),
        owner=_name_of(owners[0]) if owners else None,
    )


def _below(dependant: Dependant) -> Iterator[Dependant]:
    for item in dependant.dependencies:
        yield item
        yield from _below(item)


def _schemes(needed: Sequence[Dependant]) -> tuple[str, ...]:
    calls: list[Any] = [item.call for item in needed]
    return tuple(dict.fromkeys(str(call.scheme_name) for call in calls if isinstance(call, SecurityBase)))


def _session_of(needed: Sequence[Dependant]) -> str | None:
    """The session dependencies among those of a route: ours are told by the module that they are from."""
    calls = [item.call for item in needed if getattr(item.call, "__module__", "") == session_dependencies.__name__]
    names = " ".join(getattr(call, "__name__", "") for call in calls)
    kinds = [kind for part, kind in (("async", "async"), ("read_only", "read-only")) if part in names]
    return None if not names else ", ".join(["dependency", *kinds])


def _door_of(app: FastAPI) -> str | None:
    if any(_is_class(entry.cls, DBSessionMiddleware) for entry in app.user_middleware):
        return "middleware"
    return "lifespan" if _enters_lifespan(app.router.lifespan_context) else None


def _enters_lifespan(context: Any) -> bool:
    """Whether a lifespan is that of a database, joined by FastAPI with others, or a function that names it."""
    if getattr(context, "__func__", None) is SQLAlchemy.lifespan:
        return True
    function = getattr(context, "__wrapped__", context)
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    if "lifespan" in code.co_names and any(
        isinstance(function.__globals__.get(name), SQLAlchemy) for name in code.co_names
    ):
        return True
    cells = [cell.cell_contents for part in (context, function) for cell in getattr(part, "__closure__", None) or ()]
    return any(callable(inner) and inner is not function and _enters_lifespan(inner) for inner in cells)


def _is_class(value: object, parent: type) -> bool:
    return isinstance(value, type) and issubclass(value, parent)


def _name_of(value: Any) -> str:
    target = value.func if isinstance(value, partial) else value
    if not isinstance(target, type) and not hasattr(target, "__qualname__"):
        text = str(target)
        return text if " object at 0x" not in text else type(target).__qualname__
    # list[Item] has the name of list
    return str(target) if hasattr(target, "__origin__") else f"{target.__module__}.{target.__qualname__}"
