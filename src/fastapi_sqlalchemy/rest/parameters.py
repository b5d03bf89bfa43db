"""The query parameters of a request that are the generated route's own: those of the user's dependencies are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request

__all__ = ["query_pairs"]


def query_pairs(request: Request, further: Iterable[Any] = ()) -> list[tuple[str, str]]:
    """Return the (name, value) pairs that no dependency of the route, its routers or the application reads.

    ``further`` are dependants that are solved without the route.
    """
    pairs = request.query_params.multi_items()
    if not pairs:
        return pairs
    taken = frozenset(name for dependant in (_dependant(request), *further) for name in _names(dependant))
    return [pair for pair in pairs if pair[0] not in taken] if taken else pairs


def _dependant(request: Request) -> Any:
    """What the route depends on, together with the routers that it is included through."""
    route = request.scope.get("fastapi", {}).get("effective_route_context") or request.scope["route"]
    return route.dependant


def _names(dependant: Any) -> Iterator[str]:
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, info in annotation.model_fields.items():
                yield info.alias or name
        else:
            yield field.alias
    for below in dependant.dependencies:
        yield from _names(below)
