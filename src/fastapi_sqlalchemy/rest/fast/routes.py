"""Finds the routes of plain reads where FastAPI includes a router, without trying all routes one by one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import Scope, Send

from .answers import Answer, PageAnswers, RowAnswers

__all__ = ["PlainReads", "Selected"]

_KEY = "_fastapi_sqlalchemy_plain_reads"
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)


class Selected(NamedTuple):
    """A route that was found for a request: who answers it, and what the request's scope has to say of it."""

    context: Any
    path_params: dict[str, str]
    answer: Callable[[Scope], Awaitable[Answer | None]]

    async def respond(self, scope: Scope, send: Send) -> bool:
        """Answer the request; False where the ordinary route has to, and nothing was sent."""
        answer = await self.answer(scope)
        if answer is None:
            return False
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})
        return True


class _Places(NamedTuple):
    """The paths of the two routes where a router is included; None for one that is not open to the short way."""

    version: int
    page_path: str | None
    page_context: Any
    row_prefix: str | None
    row_context: Any


class PlainReads:
    """The plain reads of one router: ``GET /items`` and ``GET /items/{pk}``.

    They are open where no dependency, no limit and no wrapper of the endpoint takes part.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        rows: RowAnswers | None,
        pages: PageAnswers | None,
    ) -> None:
        self._routes = routes
        self._rows = rows if rows is not None and rows.is_possible else None
        self._pages = pages if pages is not None and pages.is_possible else None

    def find(self, scope: Scope, included: Any) -> Selected | None:
        """Return the route of a request to a router that is ``included`` somewhere, if it is a plain read."""
        if scope["method"] != "GET" or scope.get("root_path") or scope.get("fastapi.telemetry") is not None:
            return None
        places = self._known(included)
        path: str = scope["path"]
        if path == places.page_path:
            if self._pages is None:
                return None
            return Selected(places.page_context, {}, self._pages.answer)
        prefix = places.row_prefix
        if prefix is None or self._rows is None or not path.startswith(prefix):
            return None
        segment = path.removeprefix(prefix)
        if not segment or "/" in segment:
            return None
        rows = self._rows

        async def answer(scope: Scope) -> Answer | None:
            return await rows.answer(scope, segment)

        return Selected(places.row_context, {"pk": segment}, answer)

    def _known(self, included: Any) -> _Places:
        """The paths where the router is included, looked for again when its routes have changed."""
        found: Any = getattr(included, _KEY, None)
        if isinstance(found, _Places) and found.version == included.original_router._routes_version:
            return found
        places = self._places(included)
        setattr(included, _KEY, places)
        return places

    def _places(self, included: Any) -> _Places:
        """Look among the router's own routes, up to the first that somebody put among them."""
        version = included.original_router._routes_version
        page: Any = None
        row: Any = None
        for candidate in included.effective_candidates():
            route: Any = getattr(candidate, "original_route", None)
            if route not in self._routes:
                break
            if not _is_plain(candidate, route):
                continue
            if route.path.endswith("/{pk}"):
                row = candidate
                break
            page = candidate
        return _Places(
            version,
            page.path if page is not None and _PLAIN_PATH.fullmatch(page.path) else None,
            page,
            row.path.removesuffix("{pk}") if row is not None else None,
            row,
        )


def _is_plain(context: Any, route: APIRoute) -> bool:
    """Whether nobody but the route's own endpoint takes part in a request."""
    return (
        "GET" in context.methods
        and not context.dependant.dependencies
        and context.dependant.call is route.endpoint
        and context.max_body_size is None
        and "%" not in context.path
        and context.path.count("{") <= 1
    )
