"""`Insight(app)`: the Server-Timing header, warnings of N+1 loads and the page of the last requests, in development."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI
from starlette._utils import get_route_path
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..exceptions import ConfigurationError
from .codeline import line_of_function
from .nplusone import find_nplusone, warn_of
from .page import Page
from .recorder import Recorder
from .requests import MAX_STATEMENTS, RequestLog

__all__ = ["Insight", "server_timing"]


class Insight:
    """Shows in development what each request asks of databases.

    ``Insight(app)`` before the application starts; whatever middleware is added, and whenever, it is the outermost.
    Unless ``debug`` is true (None: what ``app.debug`` says at that moment) nothing is recorded, no header is sent and
    the page is a 404 of the application's own. In debug mode

    - every response has a ``Server-Timing`` header (https://www.w3.org/TR/server-timing/): the milliseconds in the
      database with the number of statements, those of waiting for a connection, of commits and of the whole request
      until its first byte. ``server_timing`` True sends it without debug too, False never;
    - loads of related objects one by one are warned of (`NPlusOneWarning`), unless ``nplusone`` is False;
    - the last ``keep`` requests are on the page ``page``, or on none where that is None. It answers to this machine
      only unless ``loopback_only`` is False, and shows parameters of statements only where ``parameters`` is True.

    ``log`` are those requests. Raises `ConfigurationError` where the application has started already, and for a
    ``page`` that is no path or a ``keep`` below 1.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        debug: bool | None = None,
        server_timing: bool | None = None,
        nplusone: bool = True,
        page: str | None = "/debug/db",
        keep: int = 50,
        parameters: bool = False,
        loopback_only: bool = True,
    ) -> None:
        if app.middleware_stack is not None:
            raise ConfigurationError("The application has started already: make its Insight where the app is made.")
        if page is not None and (not page.startswith("/") or page.endswith("/")):
            raise ConfigurationError(f"page is a path that starts with / and does not end with one; not {page!r}.")
        if keep < 1:
            raise ConfigurationError(f"keep is a number of requests, 1 or more; not {keep}.")
        self.app = app
        self.log = RequestLog(keep)
        self.nplusone = nplusone
        self._debug = debug
        self._server_timing = server_timing
        self._page = None if page is None else Page(self.log, page, parameters=parameters, loopback_only=loopback_only)
        build = app.build_middleware_stack

        def build_inside() -> ASGIApp:
            return _Outermost(build(), self)

        vars(app)["build_middleware_stack"] = build_inside

    @property
    def is_debug(self) -> bool:
        """Whether requests are recorded and the page answers."""
        return self.app.debug if self._debug is None else self._debug

    @property
    def sends_timing(self) -> bool:
        """Whether responses have the header."""
        return self.is_debug if self._server_timing is None else self._server_timing

    def page_for(self, scope: Scope) -> Page | None:
        """The page, where a request is for it."""
        page = self._page
        if page is None or not self.is_debug:
            return None
        return page if page.owns(get_route_path(scope)) else None

    def seen(self, recorder: Recorder, scope: Scope, status: int | None, started: float, *, clean: bool) -> None:
        """Keep a request that is over, and warn of what it loaded one by one."""
        findings = find_nplusone(recorder.statements, elsewhere=line_of_function(scope.get("endpoint")))
        self.log.add(
            recorder,
            findings,
            method=scope["method"],
            path=scope["path"],
            status=status,
            started=started,
            seconds=time.perf_counter() - started,
        )
        if clean and self.nplusone:
            warn_of(findings)


class _Outermost:
    """The middleware around all others: the transactions of a request have ended when its response passes here."""

    def __init__(self, app: ASGIApp, insight: Insight) -> None:
        self.app = app
        self.insight = insight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        insight = self.insight
        if scope["type"] != "http" or not (insight.is_debug or insight.sends_timing):
            await self.app(scope, receive, send)
            return
        page = insight.page_for(scope)
        if page is not None:
            response = await page.respond(Request(scope, receive))
            await response(scope, receive, send)
            return
        keeps = insight.is_debug
        recorder = Recorder(limit=MAX_STATEMENTS if keeps else 0)
        started = time.perf_counter()
        status: int | None = None

        async def send_timed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if insight.sends_timing:
                    value = server_timing(recorder, time.perf_counter() - started)
                    headers: list[Any] = [*message.get("headers", ()), (b"server-timing", value.encode())]
                    message = {**message, "headers": headers}
            await send(message)

        clean = False
        try:
            with recorder:
                await self.app(scope, receive, send_timed)
            clean = True
        finally:
            if keeps:
                insight.seen(recorder, scope, status, started, clean=clean)


def server_timing(recorder: Recorder, seconds: float) -> str:
    """The value of a Server-Timing header: what was recorded until now, of a request that has taken ``seconds``."""
    plural = "" if recorder.count == 1 else "s"
    metrics = (
        ("db", recorder.seconds, f"{recorder.count} statement{plural}"),
        ("pool", recorder.spent_on["wait"], "wait for a connection"),
        ("commit", recorder.spent_on["commit"], "commit"),
        ("total", seconds, "until the first byte"),
    )
    return ", ".join(f'{name};dur={1000 * spent:.2f};desc="{text}"' for name, spent, text in metrics)
