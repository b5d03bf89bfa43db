"""`mount`: PostgREST's wire on an application, for tables, models or a whole reflected database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from fastapi import APIRouter, FastAPI, params
from sqlalchemy import exc as sa_exc
from starlette.requests import Request
from starlette.responses import Response

from ...database import SQLAlchemy
from ...web.problems import Problem
from ..access import Access
from ..endpoints import Endpoints, crud
from ..hooks import Hooks
from ..operations.answer_size import TooLargeAnswerError
from ..query.settings import QuerySettings
from ..reflect import Reflection
from ..resource import Resource, ResourceRegistry, entity_of, resource_for
from ..route import CRUDRoute
from ..router import rest_of, table_name_of
from ..settings import RouterSettings
from .errors import error_response, failure
from .reading import read_rows
from .tables import KNOWN_RULES, Served, Tables
from .writing import change_rows, delete_rows, insert_rows

__all__ = ["PREFIX", "mount"]

PREFIX = "/rest/v1"
"""Where a mount is, unless it says: the path that clients of Supabase know."""

_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "TRACE")

_SEARCH = re.compile(r"tsquery\(| (?:@>|<@|&&) ")
_SEARCH_FAULTS = {"42601": 400, "42704": 400, "42883": 404}
"""SQLSTATEs of a text that is no query, of a configuration and of an operator that are not there, with the status."""

_T = TypeVar("_T")


class PostgrestRoute(CRUDRoute):
    """A route whose errors have PostgREST's shape."""

    def response(self, problem: Problem) -> Response:
        """Return a problem as PostgREST would."""
        return error_response(problem)

    def failed(self, error: Exception, request: Request) -> Response | None:
        """Return what an error is answered with: a search that PostgreSQL cannot make is the client's fault."""
        if isinstance(error, TooLargeAnswerError):
            error = failure(400, "54000", error.problem.detail, hint="Embed fewer rows, such as by limit.")
        if isinstance(error, sa_exc.DBAPIError) and _SEARCH.search(error.statement or ""):
            state = getattr(error.orig, "sqlstate", None)
            if state in _SEARCH_FAULTS:
                error = failure(_SEARCH_FAULTS[state], state, "What is searched for is not valid for its column.")
        return super().failed(error, request)


def mount(
    app: FastAPI | APIRouter,
    *,
    tables: Reflection | Iterable[type[Any] | sa.Table],
    db: SQLAlchemy | None = None,
    prefix: str = PREFIX,
    schema: str = "public",
    write: bool | None = None,
    dependencies: Sequence[params.Depends] = (),
    scope_query: Mapping[Any, Callable[..., Any] | None] | None = None,
    exclude: Mapping[Any, Iterable[str]] | None = None,
    expose: Mapping[Any, Iterable[str]] | None = None,
    hooks: Mapping[Any, object] | None = None,
    max_page_size: int = 1000,
    max_affected: int = 1000,
    use_async: bool | None = None,
) -> None:
    """Let clients of PostgREST, such as supabase-js, read and change tables below ``prefix``.

    ``tables`` are mapped classes and tables of ``db``, or the `Reflection` of a database, which has its own. Only these
    are reached, by embedding too. ``schema`` is the name that clients call the default schema by. ``write`` lets rows
    be created, changed and deleted; for a reflection the default is its own ``write``. ``dependencies`` hold for every
    request. ``scope_query``, ``exclude``, ``expose`` and ``hooks`` are those of `CRUDRouter`, by model, by table or by
    its name; a table without a ``scope_query`` here has the rules that routers of the same ``db`` have for it, one with
    None has no rule. ``max_page_size`` is the most rows of an answer, and of one parent in an embedding, which together
    are at most 100 times as many; ``max_affected`` the most that a change may touch, and the longest array of an
    insert.

    Raises ``ValueError`` for a table, field or hook that is not there, and ``TypeError`` where ``db`` is missing.
    """
    given = tables if isinstance(tables, Reflection) else None
    db = given.db if given is not None else db
    if db is None:
        raise TypeError("mount() needs db=, the database of the tables.")
    access = rest_of(db)[1]
    builder = _Builder(
        db,
        access,
        given.registry if given is not None else ResourceRegistry(closed=True),
        QuerySettings(
            page_size=max_page_size,
            max_page_size=max_page_size,
            max_values=5_000,
            max_list_values=10_000,
            max_include_depth=5,
            max_includes=20,
        ),
        write=(given is not None and given.write) if write is None else write,
        max_affected=max_affected,
        use_async=use_async,
        scope_query=_Options("scope_query", scope_query),
        exclude=_Options("exclude", exclude),
        expose=_Options("expose", expose),
        hooks=_Options("hooks", hooks),
    )
    served = builder.reflected(given, schema) if given is not None else builder.declared(tables, schema)  # type: ignore[arg-type]
    metadata = next((item.resource.table for item in served if item.endpoints is not None), None)
    app.include_router(_router(_collected(served), prefix, list(dependencies), getattr(metadata, "metadata", None)))


class _Options:
    """An option by model, table or name; what was never asked for is a table that is not there."""

    def __init__(self, name: str, given: Mapping[Any, Any] | None) -> None:
        self.name = name
        self.given = dict(given or {})
        self.used: set[Any] = set()

    def of(self, keys: Iterable[Any], default: _T) -> _T | Any:
        """Return the value for a table that has these keys."""
        for key in keys:
            if key in self.given:
                self.used.add(key)
                return self.given[key]
        return default

    def check(self) -> None:
        """Raise ``ValueError`` for a key that no table has."""
        unknown = [key for key in self.given if key not in self.used]
        if unknown:
            raise ValueError(f"{self.name} names {', '.join(map(str, unknown))}, which is not among the tables.")


@dataclass(frozen=True, eq=False)
class _Builder:
    db: SQLAlchemy
    access: Access
    registry: ResourceRegistry
    query: QuerySettings
    write: bool
    max_affected: int
    use_async: bool | None
    scope_query: _Options
    exclude: _Options
    expose: _Options
    hooks: _Options

    def declared(self, tables: Iterable[type[Any] | sa.Table], schema: str) -> list[Served]:
        """Serve models and tables."""
        found: list[tuple[str, Resource]] = []
        for item in tables:
            plain = resource_for(item, registry=ResourceRegistry(closed=True))
            keys = _keys(plain)
            exclude, expose = self.exclude.of(keys, ()), self.expose.of(keys, ())
            resource = resource_for(item, exclude=exclude, expose=expose, registry=self.registry)
            self.registry.declare(resource)
            found.append((table_name_of(resource), resource))
        return self._checked([self._served(schema, name, resource) for name, resource in found])

    def reflected(self, reflection: Reflection, schema: str) -> list[Served]:
        """Serve what a reflection found."""
        if self.exclude.given or self.expose.given:
            raise ValueError(
                "The columns of a reflection are chosen by reflect(); exclude= and expose= are for models."
            )
        return self._checked(
            [self._served(item.entry.schema or schema, item.entry.name, item.resource) for item in reflection.served]
        )

    def _served(self, schema: str, name: str, resource: Resource | None) -> Served:
        if resource is None:
            return Served(schema, name, None, self.access)
        keys = _keys(resource)
        scope_query = self.scope_query.of(keys, KNOWN_RULES)
        if scope_query is not None and scope_query is not KNOWN_RULES:
            self.access.add(resource, scope_query)
        settings = RouterSettings(
            db=self.db,
            resource=resource,
            hooks=Hooks(self.hooks.of(keys, None)),
            query=self.query,
            max_affected=self.max_affected,
            use_async=self.use_async,
        )
        write = self.write and not resource.read_only and bool(resource.key)
        return Served(schema, name, Endpoints(settings, self.access), self.access, write, scope_query)

    def _checked(self, served: list[Served]) -> list[Served]:
        for option in (self.scope_query, self.exclude, self.expose, self.hooks):
            option.check()
        return served


def _collected(served: Iterable[Served]) -> Tables:
    tables = Tables()
    for item in served:
        tables.add(item)
    return tables


def _keys(resource: Resource) -> list[Any]:
    """What an option may name a table by."""
    return [entity_of(resource), resource.table, table_name_of(resource)]


def _router(tables: Tables, prefix: str, dependencies: list[params.Depends], metadata: sa.MetaData | None) -> APIRouter:
    router = APIRouter(
        prefix=prefix,
        dependencies=dependencies,
        route_class=type("PostgrestRoute", (PostgrestRoute,), {"metadata": metadata}),
    )

    async def answer(request: Request) -> Response:
        name = request.path_params.get("table", "")
        if not name:
            raise failure(404, "PGRST126", "There is no document of the tables here.")
        request = crud(request)
        served = tables.find(request, name)
        allowed = _allowed(served)
        if request.method == "OPTIONS":
            return Response(headers={"Allow": allowed})
        if request.method not in allowed.split(", "):
            raise _refused(request, allowed, served)
        work = {"POST": insert_rows, "PATCH": change_rows, "DELETE": delete_rows}.get(request.method, read_rows)
        return await work(request, tables, served)

    for path in ("", "/{table:path}"):
        router.add_api_route(
            path, answer, methods=list(_METHODS), include_in_schema=False, response_model=None, name="postgrest"
        )
    return router


def _allowed(served: Served) -> str:
    return ", ".join(("GET", "HEAD", "OPTIONS", *(("POST", "PATCH", "DELETE") if served.write else ())))


def _refused(request: Request, allowed: str, served: Served) -> Exception:
    if request.method in ("PUT", "TRACE"):
        hint = "An upsert is a POST with Prefer." if request.method == "PUT" else None
        error = failure(405, "PGRST117", f"Unsupported HTTP method: {request.method}", hint=hint)
    else:
        error = failure(405, "25006", f"The table {served.name} can only be read here.")
    error.problem.headers["Allow"] = allowed
    return error
