"""The page of the last requests: who may see it, and what it answers."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette._utils import get_route_path
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..exceptions import ExplainError
from ..web.requests import is_local
from .explain import Plan, aexplain
from .markup import STYLE, list_page, plan_page, request_page
from .requests import RequestLog, SeenRequest
from .statement import Statement, without_literals

__all__ = ["Page"]

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_REQUEST = re.compile(r"/(\d{1,15})(\.json)?", re.ASCII)
_EXPLAIN = re.compile(r"/(\d{1,15})/(\d{1,6})/explain(\.json)?", re.ASCII)
_CLOSED = (
    "This page answers to this machine only: to a browser here, at a loopback address such as 127.0.0.1, and through "
    "no proxy. Insight(app, loopback_only=False) opens it to everybody who reaches the application.\n"
)


class Page:
    """Answers what is below ``path``; see `Insight`. What it explains are statements that were recorded, by number."""

    def __init__(self, log: RequestLog, path: str, *, parameters: bool, loopback_only: bool) -> None:
        self.log = log
        self.path = path
        self.parameters = parameters
        self.loopback_only = loopback_only

    def owns(self, path: str) -> bool:
        """Whether a request to this path is for the page."""
        return path == self.path or path == f"{self.path}.json" or path.startswith(f"{self.path}/")

    async def respond(self, request: Request) -> Response:
        """Answer a request."""
        response = await self._respond(request)
        response.headers.update(_HEADERS)
        return response

    async def _respond(self, request: Request) -> Response:
        if self.loopback_only and not is_local(request):
            return PlainTextResponse(_CLOSED, 403)
        base = request.scope.get("root_path", "").rstrip("/") + self.path
        rest = get_route_path(request.scope).removeprefix(self.path)
        asked = _EXPLAIN.fullmatch(rest)
        if request.method not in (("POST",) if asked else ("GET", "HEAD")):
            allowed = "POST" if asked else "GET, HEAD"
            return PlainTextResponse("Method not allowed.\n", 405, headers={"Allow": allowed})
        if asked:
            if not _is_own(request):
                return PlainTextResponse("Only the page itself may ask for this.\n", 403)
            return await self._explain(request, base, int(asked[1]), int(asked[2]), as_json=bool(asked[3]))
        if rest == "":
            return _html(list_page(self.log, base))
        if rest == ".json":
            return _json({"requests": [_summary(seen) for seen in self.log]})
        if rest == "/style.css":
            return Response(STYLE, media_type="text/css")
        found = _REQUEST.fullmatch(rest)
        seen = None if found is None else self.log.find(int(found[1]))
        if found is None or seen is None:
            return _missing()
        if found[2]:
            return _json(self._details(seen))
        return _html(request_page(seen, base, self._shown_parameters))

    async def _explain(self, request: Request, base: str, number: int, place: int, *, as_json: bool) -> Response:
        seen = self.log.find(number)
        if seen is None or not 0 < place <= len(seen.statements):
            return _missing()
        statement = seen.statements[place - 1]
        try:
            plan = await aexplain(statement, analyze=request.query_params.get("analyze") == "1")
        except ExplainError as error:
            if as_json:
                return _json({"error": str(error)}, 409)
            return _html(plan_page(seen, place, base, [str(error)], ()), 409)
        lines = self._shown(plan)
        if as_json:
            return _json({"plan": lines, "full_scans": plan.full_scans})
        return _html(plan_page(seen, place, base, lines, plan.full_scans))

    def _shown(self, plan: Plan) -> list[str]:
        """The lines of a plan; a database writes parameters into its conditions."""
        return list(plan.lines) if self.parameters else [without_literals(line) for line in plan.lines]

    def _shown_parameters(self, statement: Statement) -> str | None:
        if not self.parameters:
            return None
        return repr(statement.parameters)[:2000] if statement.is_whole else "too large to be kept"

    def _details(self, seen: SeenRequest) -> dict[str, Any]:
        repeated = seen.duplicates()
        return {
            **_summary(seen),
            "nplusone": [str(finding) for finding in seen.findings],
            "intervals": [
                {"kind": interval.kind, "at_ms": _ms(interval.started - seen.started), "ms": _ms(interval.seconds)}
                for interval in seen.intervals
            ],
            "details": [
                {
                    "number": place + 1,
                    "statement": statement.sql,
                    "at_ms": _ms(statement.started - seen.started),
                    "ms": _ms(statement.total),
                    "rows": statement.rows,
                    "line": None if statement.line is None else str(statement.line),
                    "error": statement.error,
                    "repeats": repeated[place] + 1 if place in repeated else None,
                    **({"parameters": self._shown_parameters(statement)} if self.parameters else {}),
                }
                for place, statement in enumerate(seen.statements)
            ],
        }


def _summary(seen: SeenRequest) -> dict[str, Any]:
    return {
        "number": seen.number,
        "at": seen.at.isoformat(timespec="milliseconds"),
        "method": seen.method,
        "path": seen.path,
        "status": seen.status,
        "ms": _ms(seen.seconds),
        "database_ms": _ms(seen.database_seconds),
        "wait_ms": _ms(seen.spent_on["wait"]),
        "commit_ms": _ms(seen.spent_on["commit"]),
        "statements": seen.count,
        "nplusone_found": len(seen.findings),
    }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _is_own(request: Request) -> bool:
    """Whether a form of the page itself sent the request (Fetch Metadata; else the Origin, RFC 6454)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or origin == f"{request.url.scheme}://{request.url.netloc}"


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="text/html")


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def _missing() -> Response:
    return PlainTextResponse("Not found: it is over, or was never here.\n", 404)
