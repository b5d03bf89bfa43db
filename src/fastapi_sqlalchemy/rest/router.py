"""`CRUDRouter`: the REST routes of one model or table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, params
from pydantic import BaseModel
from sqlalchemy import Table
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from ..database import SQLAlchemy
from ..exceptions import ConfigurationError
from ..models.naming import table_name
from ..web.problems import Problem, ProblemError
from .access import Access
from .dialects.edge import Edge
from .dialects.identity import identity_of
from .dialects.problems import DialectRoute
from .dialects.words import dialects_of
from .endpoints import Endpoints
from .fast.answers import PageAnswers, RowAnswers
from .fast.routes import PlainReads, Selected
from .hooks import Hooks
from .listing import Listing
from .operations.upsert import conflict_targets
from .paths import Describer
from .query.settings import QuerySettings
from .resource import Resource, ResourceRegistry, resource_for
from .route import CRUDEndpoint, CRUDRoute
from .sets import SetEndpoints
from .settings import OPERATIONS, RouterSettings

__all__ = ["CRUDRouter", "rest_of", "table_name_of"]

_DEFAULT = ("list", "create", "read", "update", "replace", "delete", "upsert")
_PATHS = {  # in the order of the routes: what is asked most is found first
    "list": ("", "GET"),
    "read": ("/{pk}", "GET"),
    "create": ("", "POST"),
    "bulk_update": ("", "PATCH"),
    "bulk_delete": ("", "DELETE"),
    "upsert": ("/-/upsert", "POST"),
    "aggregate": ("/-/aggregate", "GET"),
    "update": ("/{pk}", "PATCH"),
    "replace": ("/{pk}", "PUT"),
    "delete": ("/{pk}", "DELETE"),
}

_SELECTED = "fastapi_sqlalchemy.selected"


class CRUDRouter(APIRouter):
    """Routes to list, read, create, change and delete the rows of ``model``, a mapped class or a ``Table``.

    ``db`` is the database; ``prefix`` the path (by default the table's name). ``operations`` chooses among list,
    create, read, update, replace, delete and upsert; ``bulk`` adds PATCH and DELETE of all rows that a filter finds, at
    most ``max_affected`` of them (also the longest array of a create); ``aggregates`` adds sums and counts.
    ``read_schema``, ``create_schema`` and ``update_schema`` are pydantic models in place of the derived ones;
    ``exclude`` leaves fields or relations out, ``expose`` names secret-looking fields to show on purpose.
    ``page_size`` and ``max_page_size`` are rows; ``count`` is what a list counts unless the query says: "none",
    "exact" or "estimated"; ``envelope`` answers a list as ``{"items", "next", "total"}``. ``require_if_match`` refuses
    a change without If-Match (428). ``scope_query`` is a dependency that returns the criteria of the rows that the
    caller owns. ``dependencies`` hold for every route, ``operation_dependencies`` by operation (bulk_update,
    bulk_delete and aggregate too). ``hooks`` has functions such as ``before_create(session, values)``. ``use_async``
    chooses the engine; None takes the faster one for the database. ``registry`` shares resources between routers: by
    default, all routers of one ``db``. ``dialects`` names conventions of other clients that the routes understand too,
    "simple-rest" and "json-server" (react-admin, Refine): a list counts its rows, PUT changes the fields given, a row
    has an ``id`` where its key is another, and problems have the members that these clients show.

    Raises ``ValueError`` for an operation, field, hook or dialect that does not exist, and where no column may be
    read; also for ``dialects`` with ``envelope`` or with a model whose rows have no key, or another ``id``.
    """

    def __init__(
        self,
        model: type[Any] | Table,
        *,
        db: SQLAlchemy,
        prefix: str | None = None,
        tags: list[Any] | None = None,
        operations: Iterable[str] = _DEFAULT,
        bulk: bool = False,
        aggregates: bool = False,
        read_schema: type[BaseModel] | None = None,
        create_schema: type[BaseModel] | None = None,
        update_schema: type[BaseModel] | None = None,
        exclude: Iterable[str] = (),
        expose: Iterable[str] = (),
        page_size: int = 50,
        max_page_size: int = 500,
        count: Literal["none", "exact", "estimated"] = "none",
        envelope: bool = False,
        max_affected: int = 1000,
        require_if_match: bool = False,
        scope_query: Callable[..., Any] | None = None,
        dependencies: Sequence[params.Depends] = (),
        operation_dependencies: Mapping[str, Sequence[params.Depends]] | None = None,
        hooks: object | None = None,
        dialects: Sequence[str] = (),
        use_async: bool | None = None,
        registry: ResourceRegistry | None = None,
    ) -> None:
        spoken = dialects_of(dialects)
        if spoken and envelope:
            raise ValueError("The clients of a dialect take a list that is an array: leave out envelope or dialects.")
        own_registry, access = rest_of(db)
        registry = registry or own_registry
        expose = frozenset(expose) | _exposed_by(read_schema, model, registry)
        self.resource = resource_for(model, exclude=exclude, expose=expose, registry=registry)
        if not self.resource.readable:
            raise ConfigurationError(
                f"Nothing of {self.resource.name} may be read: every column is excluded or has a name that looks "
                "secret. Name those to show with expose=(...)."
            )
        registry.declare(self.resource)
        if read_schema is not None:
            self.resource = _narrowed(self.resource, read_schema)
        if scope_query is not None:
            access.add(self.resource, scope_query)
        self.settings = RouterSettings(
            db=db,
            resource=self.resource,
            hooks=Hooks(hooks),
            query=QuerySettings(page_size=min(page_size, max_page_size), max_page_size=max_page_size, count=count),
            envelope=envelope,
            max_affected=max_affected,
            require_if_match=require_if_match,
            scope_query=scope_query,
            read_schema=read_schema,
            create_schema=create_schema,
            update_schema=update_schema,
            use_async=use_async,
            dialects=spoken,
            identity=identity_of(self.resource, read_schema) if spoken else None,
        )
        name = _slug(self.resource.name)
        base: Any = DialectRoute if spoken else CRUDRoute
        super().__init__(
            prefix=f"/{quote(table_name_of(self.resource), safe='')}" if prefix is None else prefix,
            tags=[self.resource.name] if tags is None else tags,
            dependencies=list(dependencies),
            route_class=type("CRUDRoute", (base,), {"metadata": _metadata(self.resource)}),
        )
        self._looked_at, self._uniform = -1, False
        chosen = _chosen(self.resource, operations, bulk=bulk, aggregates=aggregates)
        if spoken and "update" in chosen:
            chosen = [operation for operation in _PATHS if operation in {*chosen, "replace"}]
        given = dict(operation_dependencies or {})
        unknown = sorted(set(given) - set(OPERATIONS))
        if unknown:
            raise ValueError(f"There is no operation {', '.join(unknown)}; there are: {', '.join(OPERATIONS)}.")
        self._add_routes(name, chosen, given, access)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match a request where the router is included; a path without the prefix in it needs no look at the routes."""
        if self.prefix and "%" not in self.prefix and self.prefix not in scope.get("path", "") and self._is_uniform():
            return Match.NONE, {}
        included = scope.get("fastapi", {}).get("included_router")
        if scope["type"] == "http" and included is not None and included.original_router is self:
            selected = self._plain_reads.find(scope, included)
            if selected is not None:
                scope[_SELECTED] = selected
                return Match.FULL, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request where the router is included; a plain read that `matches` has found is answered at once."""
        selected: Selected | None = scope.pop(_SELECTED, None)
        if selected is not None:
            route: CRUDRoute = selected.context.original_route
            scope.update(endpoint=route.endpoint, path_params=selected.path_params, route=route)
            scope["fastapi"]["effective_route_context"] = selected.context
            try:
                if await selected.respond(scope, send):
                    return
            except Exception as error:
                response = route.failed(error, Request(scope, receive))
                if response is None:
                    raise
                await response(scope, receive, send)
                return
        await super().handle(scope, receive, send)

    def _is_uniform(self) -> bool:
        """Whether every route has the prefix, those that were added later too."""
        if self._looked_at != len(self.routes):
            self._uniform = all(getattr(route, "path", "").startswith(self.prefix) for route in self.routes)
            self._looked_at = len(self.routes)
        return self._uniform

    def _add_routes(
        self, name: str, chosen: Sequence[str], given: Mapping[str, Sequence[params.Depends]], access: Access
    ) -> None:
        endpoints = Endpoints(self.settings, access)
        listing = Listing(endpoints)
        owners: tuple[object, ...] = (listing, SetEndpoints(endpoints), endpoints)
        describer = Describer(endpoints)
        edge = Edge(endpoints) if self.settings.dialects else None
        methods: dict[str, list[str]] = {}
        for operation in chosen:
            path, method = _PATHS[operation]
            methods.setdefault(path, []).append(method)
            name_of = {"list": "read_page"}.get(operation, operation)
            work = next(getattr(owner, name_of) for owner in owners if hasattr(owner, name_of))
            own = list(given.get(operation, ()))
            described = operation
            if edge is not None:
                work = edge.around(operation, work)
                if operation == "replace":  # an update under another name
                    described = "update"
                    own += (item for item in given.get("update", ()) if item not in own)
            guarded = bool(self.settings.scope_query or self.dependencies or own)
            documented = describer.describe(described, guarded=guarded)
            endpoint = _endpoint(work, self.settings.scope_query, documented.body, access)
            common: dict[str, Any] = {
                "name": f"{operation}_{name}",
                "dependencies": own,
                "response_model": None,
            }
            self.add_api_route(
                path,
                endpoint,
                methods=[method],
                summary=documented.summary,
                description=documented.description,
                status_code=documented.status,
                responses=documented.responses,
                openapi_extra=documented.extra,
                **common,
            )
            if method == "GET":
                self.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False, **common)
        pages = None if edge is not None else PageAnswers(listing)
        self._plain_reads = PlainReads(list(self.routes), RowAnswers(endpoints), pages)
        for path, allowed in methods.items():
            self.add_api_route(
                path,
                _method_not_allowed([*allowed, "HEAD"] if "GET" in allowed else allowed),
                methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"],
                include_in_schema=False,
                name=f"method_not_allowed_{name}",
                response_model=None,
            )


def _endpoint(
    work: Callable[..., Any], scope_query: Callable[..., Any] | None, body: Any, access: Access
) -> CRUDEndpoint:
    """Return an endpoint whose signature tells FastAPI about the scope and the body."""
    endpoint = CRUDEndpoint(work, is_direct=lambda: not access.has_rules)
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("request", kind, annotation=Request)]
    if scope_query is not None:
        parameters.append(inspect.Parameter("scope", kind, annotation=Any, default=params.Depends(scope_query)))
    if body is not None:
        parameters.append(inspect.Parameter("body", kind, annotation=body))
    endpoint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return endpoint


def _method_not_allowed(allowed: Sequence[str]) -> Callable[..., Any]:
    allow = ", ".join(sorted(set(allowed)))

    async def method_not_allowed(request: Request) -> Response:
        problem = Problem(
            status=405, code="method_not_allowed", detail=f"This path has no {request.method}; it has {allow}."
        )
        problem.headers["Allow"] = allow
        raise ProblemError(problem)

    return method_not_allowed


def _chosen(resource: Resource, operations: Iterable[str], *, bulk: bool, aggregates: bool) -> list[str]:
    """The operations that were asked for and that the resource has, in the order of the routes."""
    wanted = {operations} if isinstance(operations, str) else set(operations)
    unknown = sorted(wanted - set(OPERATIONS))
    if unknown:
        raise ValueError(f"There is no operation {', '.join(unknown)}; there are: {', '.join(OPERATIONS)}.")
    if bulk:
        wanted |= {"bulk_update", "bulk_delete"}
    if aggregates:
        wanted.add("aggregate")
    if not resource.key:
        wanted &= {"list", "aggregate"}
    if resource.read_only:
        wanted &= {"list", "read", "aggregate"}
    if not isinstance(resource.table, Table):
        wanted -= {"upsert", "bulk_update", "bulk_delete"}
    if not conflict_targets(resource):
        wanted.discard("upsert")
    return [operation for operation in _PATHS if operation in wanted]


def rest_of(db: SQLAlchemy) -> tuple[ResourceRegistry, Access]:
    """Return what all routers of a database share: their resources, and the rules of who owns the rows."""
    found: tuple[ResourceRegistry, Access] = db.extensions.setdefault("rest", (ResourceRegistry(), Access()))
    return found


def _exposed_by(schema: type[BaseModel] | None, model: Any, registry: ResourceRegistry) -> frozenset[str]:
    """Secret fields that a read schema names on purpose."""
    if schema is None:
        return frozenset()
    plain = resource_for(model, registry=registry)
    return frozenset(name for name in schema.model_fields if name in plain.fields and plain.fields[name].secret)


def _narrowed(resource: Resource, schema: type[BaseModel]) -> Resource:
    """The resource as a read schema shows it: other fields are neither returned nor named in a query."""
    for name, info in schema.model_fields.items():
        if name not in resource.fields and info.is_required():
            raise ValueError(
                f"{schema.__name__}.{name} is no column of {resource.name}. Give it a default, make it a computed "
                "field, or take it out of read_schema."
            )
    fields = {
        name: item if name in schema.model_fields else replace(item, readable=False, filterable=False)
        for name, item in resource.fields.items()
    }
    return replace(resource, fields=fields)


def table_name_of(resource: Resource) -> str:
    """The name of the resource's own table, or of its class where it shares one."""
    mapper = resource.mapper
    if mapper is None:
        return str(getattr(resource.table, "name", resource.name))
    return table_name(resource.name) if mapper.single else str(getattr(mapper.local_table, "name", resource.name))


def _metadata(resource: Resource) -> Any:
    return getattr(resource.table, "metadata", None)


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower() or "row"
