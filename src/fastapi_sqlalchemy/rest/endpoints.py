"""The endpoints of single rows: read, create, update, replace, delete, upsert.

Everything that can refuse a request is done before the database is asked for a session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from ..web.problems import Problem, ProblemError
from .access import Access
from .bodies import Body
from .etag import etag_fields, etag_of, matches
from .fast.creates import Creates
from .fast.reads import ShortWay
from .fast.work import GiveWay, Work
from .keys import KeyNotFoundError, MalformedKeyError, decode_key, encode_key
from .operations import read, write
from .operations.rows import Row, Shape, Target, UnreadableRowError
from .operations.upsert import conflict_targets, upsert
from .parameters import query_pairs
from .paths import Schemas
from .presentation import Presentation
from .resource import Resource
from .route import CRUDRequest, path_of
from .schemas import body_model
from .selection import Selection
from .serialize import dump_json
from .settings import RouterSettings

__all__ = ["Endpoints"]

T = TypeVar("T")
JSON = "application/json"
RETRIES = 3
"""How often a change is tried again after a deadlock or a serialization failure."""


class Endpoints:
    """The endpoints of one router; each takes the request and what ``scope_query`` gave."""

    def __init__(self, settings: RouterSettings, access: Access) -> None:
        self.settings = settings
        self.resource = settings.resource
        self.access = access
        self.shape = Shape.of(self.resource)
        self.schemas = Schemas(settings)
        self.presentation = Presentation(self.shape, settings.read_schema, settings.identity)
        self.short_way = ShortWay(settings.db, settings.use_async)
        self._creates = Creates(self.shape, self.short_way)
        self._bodies: dict[tuple[Any, ...], Body] = {}

    async def read(self, request: Request, scope: Any) -> Response:
        """One row."""
        key = self._key(request)
        selection = Selection.of(self.resource, query_pairs(request), self.settings.query)
        target = await self.target(request, scope, selection.targets())
        if selection.is_whole and "after_read" not in self.settings.hooks:
            return self._row(request, await self._read_whole(target, key))
        tags = [self.resource.fields[name] for name in etag_fields(self.resource)]
        page = read.Page(selection.fields, tree=selection.tree, extra=[item.column for item in tags])
        item, values = await self.run(lambda session: read.read_object(session, target, key, page), read_only=True)
        if selection.chosen is None:
            item = self.presentation.shaped([item])[0]
        # The ETag is that of the row: rows that are included may have changed, so no 304 for them.
        tag = etag_of(self.resource, values)
        if not selection.tree and self._is_known(request, tag):
            return Response(status_code=304, headers={"ETag": tag})
        return Response(dump_json(item), headers={"ETag": tag}, media_type=JSON)

    async def create(self, request: Request, scope: Any) -> Response:
        """One row, or many in one transaction."""
        target = await self.changed(request, scope)
        body = self.body("Create", preset=target.ownership.presets())
        rows, many = await body.many(crud(request), self.resource)
        row = None if many else await self._creates.create(target, rows[0])
        created = [row] if row is not None else await self.run(lambda session: write.create(session, target, rows))
        headers: dict[str, str] = {}
        if not many:
            headers = self._entity_headers(created[0])
            headers["Location"] = f"{path_of(request).rstrip('/')}/{encode_key(self.shape.key(created[0]))}"
        if minimal(request):
            return Response(status_code=201, headers={**headers, "Preference-Applied": "return=minimal"})
        content = self.presentation.rows(created) if many else self.presentation.row(created[0])
        return Response(content, 201, headers, media_type=JSON)

    async def update(self, request: Request, scope: Any) -> Response:
        """Change the fields given."""
        return await self._change(request, scope, "Update", write.update)

    async def replace(self, request: Request, scope: Any) -> Response:
        """Set every field."""
        return await self._change(request, scope, "Replace", write.replace)

    async def delete(self, request: Request, scope: Any) -> Response:
        """Delete one row."""
        key = self._key(request)
        if_match = self._if_match(request)
        target = await self.target(request, scope)
        row = await self.change(target, lambda session: write.delete(session, target, key, if_match))
        if minimal(request):
            return Response(status_code=204, headers={"Preference-Applied": "return=minimal"})
        return Response(self.presentation.row(row), media_type=JSON)

    async def upsert(self, request: Request, scope: Any) -> Response:
        """Insert or update, one row or many."""
        conflict = self._conflict(request)
        target = await self.changed(request, scope)
        body = self.body("Upsert", preset=target.ownership.presets(), extra=conflict)
        rows, many = await body.many(crud(request), self.resource)
        found = await self.change(target, lambda session: upsert(session, target, rows, conflict))
        if minimal(request):
            return Response(status_code=204, headers={"Preference-Applied": "return=minimal"})
        content = self.presentation.rows(found) if many else self.presentation.row(found[0])
        return Response(content, headers={} if many else self._entity_headers(found[0]), media_type=JSON)

    async def run(self, work: Callable[[Session], T], *, read_only: bool = False) -> T:
        """Do database work in one hop; a change that collides with another transaction is tried again."""
        return await self.settings.db.run(
            work, read_only=read_only, use_async=self.settings.use_async, retries=0 if read_only else RETRIES
        )

    async def change(self, target: Target, work: Callable[[Session], T]) -> T:
        """Do work that changes rows; when a stored value cannot be read back, once more without RETURNING."""
        try:
            return await self.run(work)
        except UnreadableRowError:
            target.cautious = True
            return await self.run(work)

    async def target(self, request: Request, scope: Any, reached: Iterable[Resource] = ()) -> Target:
        """Return what the operation works on: the resource as the caller may see it."""
        ownership = await self.access.ownership(request, self.resource, scope, reached)
        hooks = self.settings.hooks
        return Target(self.resource, ownership, hooks, asyncio.get_running_loop() if hooks else None)

    async def changed(self, request: Request, scope: Any, reached: Iterable[Resource] = ()) -> Target:
        """Return what a change works on; its foreign keys may point at what the caller sees only."""
        references = self.access.references(self.resource)
        target = await self.target(request, scope, [*reached, *(item.target for item in references)])
        target.references = references
        return target

    def body(
        self, kind: Literal["Create", "Update", "Replace", "Upsert"], preset: Any = (), extra: Sequence[str] = ()
    ) -> Body:
        """Return the body of an operation; ``preset`` fields are set by ownership and may be left out."""
        key = (kind, tuple(sorted(preset)), tuple(extra))
        found = self._bodies.get(key)
        if found is None:
            given = self.settings.update_schema if kind == "Update" else self.settings.create_schema
            model = given or body_model(self.resource, kind, preset=preset, extra=extra)
            complete = given is not None and kind != "Update"
            found = Body(model, derived=not complete, max_items=self.settings.max_affected)
            self._bodies[key] = found
        return found

    async def _change(
        self, request: Request, scope: Any, kind: Literal["Update", "Replace"], work: Callable[..., Row]
    ) -> Response:
        key = self._key(request)
        if_match = self._if_match(request)
        target = await self.changed(request, scope)
        values = await self.body(kind, preset=target.ownership.presets()).one(crud(request), self.resource)
        row = await self.change(target, lambda session: work(session, target, key, values, if_match))
        if minimal(request):
            headers = {**self._entity_headers(row), "Preference-Applied": "return=minimal"}
            return Response(status_code=204, headers=headers)
        return Response(self.presentation.row(row), headers=self._entity_headers(row), media_type=JSON)

    async def _read_whole(self, target: Target, key: tuple[Any, ...]) -> Row:
        reads = self.short_way.open() if target.ownership.is_open else None
        if reads is not None:
            try:
                rows = await reads.run(self.by_key(key))
            except GiveWay:
                pass
            else:
                if not rows:
                    raise write.not_found(self.resource)
                return rows[0]
        return await self.run(lambda session: read.read_row(session, target, key), read_only=True)

    def by_key(self, key: tuple[Any, ...]) -> Work[list[Row]]:
        """Read one row, or none."""
        found = yield self.shape.by_key, {f"key_{number}": value for number, value in enumerate(key)}
        return found.processed()

    def _row(self, request: Request, row: Row) -> Response:
        tag = self.shape.etag(row)
        if self._is_known(request, tag):
            return Response(status_code=304, headers={"ETag": tag})
        return Response(self.presentation.row(row), headers={"ETag": tag}, media_type=JSON)

    def _is_known(self, request: Request, tag: str) -> bool:
        if_none_match = request.headers.get("if-none-match")
        return if_none_match is not None and matches(if_none_match, tag, weak=True)

    def _entity_headers(self, row: Row) -> dict[str, str]:
        return {"ETag": self.shape.etag(row)}

    def _key(self, request: Request) -> tuple[Any, ...]:
        try:
            return decode_key(self.resource.key, request.path_params["pk"])
        except MalformedKeyError as error:
            names = [field.name for field in self.resource.key]
            errors = [{"loc": ["path", "pk"], "msg": str(error), "type": "key_parsing"}]
            problem = Problem(status=422, code="validation_error", detail=str(error), fields=names, errors=errors)
            raise ProblemError(problem) from None
        except KeyNotFoundError:
            raise write.not_found(self.resource) from None

    def _if_match(self, request: Request) -> str | None:
        found = request.headers.get("if-match")
        if found is None and self.settings.require_if_match:
            detail = "This change needs an If-Match header with the ETag of the row."
            raise ProblemError(Problem(status=428, code="precondition_failed", detail=detail))
        return found

    def _conflict(self, request: Request) -> tuple[str, ...]:
        allowed = conflict_targets(self.resource)
        pairs = query_pairs(request)
        for name, _ in pairs:
            if name != "on_conflict":
                raise invalid_parameter(name, f"There is no parameter {name}; there is: on_conflict.")
        given = [value for _, value in pairs]
        if not given and len(allowed) == 1:
            return allowed[0]
        names = [name for item in given for name in item.split(",")]
        for candidate in allowed:
            if set(candidate) == set(names) and len(candidate) == len(names):
                return candidate
        choices = "; ".join(",".join(item) for item in allowed)
        detail = f"on_conflict must name a key or a unique constraint: {choices}."
        raise invalid_parameter("on_conflict", detail)


def crud(request: Request) -> CRUDRequest:
    """Return the request as one whose body can be read."""
    return request if isinstance(request, CRUDRequest) else CRUDRequest(request.scope, request.receive)


def minimal(request: Request) -> bool:
    """Whether the client wants no body back (RFC 7240, section 4.2)."""
    prefer = request.headers.get("prefer")
    return prefer is not None and any(
        item.strip().lower().replace('"', "") == "return=minimal" for item in prefer.replace(";", ",").split(",")
    )


def invalid_parameter(name: str, detail: str) -> ProblemError:
    """Return the error for a query parameter that cannot be."""
    errors = [{"loc": ["query", name], "msg": detail, "type": "invalid_parameter"}]
    return ProblemError(Problem(status=422, code="validation_error", detail=detail, fields=[name[:200]], errors=errors))
