"""The endpoints of sets of rows: bulk change, bulk delete, aggregates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from ..web.problems import Problem, ProblemError
from .endpoints import JSON, Endpoints, crud
from .fields import Field
from .operations.aggregate import FUNCTIONS, Aggregate, aggregate, can_aggregate
from .operations.bulk import bulk_delete, bulk_update
from .operations.rows import Target, dialect_of
from .parameters import query_pairs
from .query import ListQuery, compile_filters
from .selection import reached_by, read_query
from .serialize import dump_json

__all__ = ["SetEndpoints"]

_FILTERS = ("q", "filter")
_GROUPS = ("group_by", "limit")


class SetEndpoints:
    """The endpoints of one router that work on all rows a filter finds."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.resource = endpoints.resource
        self.settings = endpoints.settings

    async def bulk_update(self, request: Request, scope: Any) -> Response:
        """Set the same values on every row that the filter finds."""
        query, target = await self._filtered(request, scope)
        values = await self.endpoints.body("Update").one(crud(request), self.resource)
        limit = self.settings.max_affected
        return await self._affected(
            lambda session: bulk_update(session, target, _criteria(session, target, query), values, limit)
        )

    async def bulk_delete(self, request: Request, scope: Any) -> Response:
        """Delete every row that the filter finds."""
        query, target = await self._filtered(request, scope)
        limit = self.settings.max_affected
        return await self._affected(
            lambda session: bulk_delete(session, target, _criteria(session, target, query), limit)
        )

    async def aggregate(self, request: Request, scope: Any) -> Response:
        """Figures of groups."""
        pairs = query_pairs(request)
        own = (*_GROUPS, *FUNCTIONS)
        groups, figures, limit = self._figures([(name, value) for name, value in pairs if name in own])
        rest = [(name, value) for name, value in pairs if name not in own]
        query = read_query(self.resource, rest, self.settings.query, reserved=_FILTERS)
        target = await self.endpoints.target(request, scope, reached_by(query.filters))

        def work(session: Session) -> list[dict[str, Any]]:
            return aggregate(session, target, groups, figures, _criteria(session, target, query), limit)

        return Response(dump_json(await self.endpoints.run(work, read_only=True)), media_type=JSON)

    async def _filtered(self, request: Request, scope: Any) -> tuple[ListQuery, Target]:
        pairs = query_pairs(request)
        query = read_query(self.resource, pairs, self.settings.query, reserved=_FILTERS)
        if not query.is_filtered:
            detail = "A change of many rows needs a filter, such as ?status=draft."
            raise ProblemError(Problem(status=422, code="validation_error", detail=detail))
        return query, await self.endpoints.changed(request, scope, reached_by(query.filters))

    async def _affected(self, work: Callable[[Session], int]) -> Response:
        return Response(dump_json({"affected": await self.endpoints.run(work)}), media_type=JSON)

    def _figures(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[Field], list[Aggregate], int]:
        groups: dict[str, Field] = {}
        figures: dict[str, Aggregate] = {}
        limit = self.settings.query.max_page_size
        for name, value in pairs:
            if name == "limit":
                limit = self._limit(value)
                continue
            for word in value.split(","):
                if name == "group_by":
                    groups[word] = self._field(name, word, "count")
                else:
                    field = None if name == "count" and word == "*" else self._field(name, word, name)
                    figure = Aggregate(name, field)
                    figures[figure.name] = figure
        if not figures:
            figures["count"] = Aggregate("count", None)
        if len(groups) + len(figures) > 20:
            raise _refused("group_by", "an aggregate has at most 20 columns")
        return list(groups.values()), list(figures.values()), limit

    def _field(self, parameter: str, name: str, function: str) -> Field:
        allowed = self._fields(function)
        if name not in allowed:
            also = "*, " if parameter == "count" else ""
            raise _refused(
                parameter, f"unknown column {name[:64]} in {parameter}; there is: {also}{', '.join(allowed) or 'none'}"
            )
        return allowed[name]

    def _fields(self, function: str) -> dict[str, Field]:
        return {
            name: item
            for name, item in self.resource.filterable.items()
            if item.readable and can_aggregate(function, item)
        }

    def _limit(self, text: str) -> int:
        highest = self.settings.query.max_page_size
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= highest):
            raise _refused("limit", f"limit must be between 1 and {highest}")
        return int(text)

    def columns(self, function: str) -> list[str]:
        """Return the names that a parameter of an aggregate takes, for its documentation."""
        return list(self._fields(function))


def _criteria(session: Session, target: Target, query: ListQuery) -> list[Any]:
    return compile_filters(query, target.resource, dialect_of(session), target.ownership.criteria)


def _refused(parameter: str, msg: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ["query", parameter], "msg": msg, "type": "value_error"}])
