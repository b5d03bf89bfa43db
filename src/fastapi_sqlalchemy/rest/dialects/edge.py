"""The edge of a router with dialects: a request goes in as the router's own, its answer out as the client's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from ...exceptions import ConfigurationError
from ..endpoints import JSON, Endpoints
from ..listing import media_type
from ..parameters import query_pairs
from ..route import MAX_BODY, CRUDRequest
from .bodies import ReturnedRow
from .grammar import Grammar, Pairs, Translation

__all__ = ["EXPOSED", "Edge"]

Work: TypeAlias = "Callable[[Request, Any], Coroutine[Any, Any, Response]]"

EXPOSED = "Content-Range, X-Total-Count, Link"
"""Headers of a list that a browser hands to a client from another origin (Fetch, section 3.2.2)."""


class Edge:
    """Turns the requests of one router that speaks dialects. Everything between is done by the endpoints as ever.

    Raises ``ConfigurationError`` for hooks of a replace that no request would call.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        settings = endpoints.settings
        for moment in ("before", "after"):
            if f"{moment}_replace" in settings.hooks and f"{moment}_update" not in settings.hooks:
                raise ConfigurationError(
                    f"The hook {moment}_replace is never called on a router with dialects, where PUT is an update: "
                    f"give its hooks a {moment}_update."
                )
        self._endpoints = endpoints
        self._grammar = Grammar(settings.dialects, settings.resource, settings.identity, settings.query)
        self._created = ReturnedRow(settings, "Create")
        self._updated = ReturnedRow(settings, "Update")

    def around(self, operation: str, work: Work) -> Work:
        """Return the work of an operation as it is done for clients of a dialect."""
        if operation == "list":
            return self._list(work)
        if operation == "read":
            return self._read(work)
        if operation == "create":
            return self._write(work, self._created)
        if operation == "update":
            return self._write(work, self._updated)
        if operation == "replace":  # these clients send what has changed, or a row with what they know of it
            return self._write(self._endpoints.update, self._updated)
        return work

    def _list(self, work: Work) -> Work:
        async def listed(request: Request, scope: Any) -> Response:
            whole = media_type(request.headers.get("accept")) != JSON
            pairs = query_pairs(request)
            found = self._grammar.page(pairs, whole=whole)
            try:
                response = await work(request if found is None else _with_query(request, pairs, found.pairs), scope)
            except RequestValidationError as error:
                raise error if found is None else _in_words_of(found, error) from None
            response.headers.setdefault("Access-Control-Expose-Headers", EXPOSED)
            return response

        return listed

    def _read(self, work: Work) -> Work:
        async def read(request: Request, scope: Any) -> Response:
            pairs = query_pairs(request)
            found = self._grammar.row(pairs)
            try:
                return await work(request if found is None else _with_query(request, pairs, found.pairs), scope)
            except RequestValidationError as error:
                raise error if found is None else _in_words_of(found, error) from None

        return read

    def _write(self, work: Work, returned: ReturnedRow) -> Work:
        async def write(request: Request, scope: Any) -> Response:
            return await work(_StrippedRequest(request, returned), scope)

        return write


class _StrippedRequest(CRUDRequest):
    """A request whose body is read without what a client has only sent back."""

    def __init__(self, request: Request, returned: ReturnedRow) -> None:
        super().__init__(request.scope, request.receive)
        self._returned = returned

    async def read(self, limit: int = MAX_BODY) -> bytes:
        return self._returned.strip(await super().read(limit), self.path_params.get("pk"))


def _in_words_of(found: Translation, error: RequestValidationError) -> RequestValidationError:
    """The errors of a query string at the parameters that the client gave."""
    return RequestValidationError([{**item, "loc": found.place(item["loc"])} for item in error.errors()])


def _with_query(request: Request, pairs: Pairs, found: Pairs) -> Request:
    """The request with other parameters; those that a dependency has read stay."""
    own = {name for name, _ in pairs}
    kept = [pair for pair in request.query_params.multi_items() if pair[0] not in own]
    query = urlencode([*kept, *found], quote_via=quote, errors="replace").encode("ascii")
    return CRUDRequest({**request.scope, "query_string": query}, request.receive)
