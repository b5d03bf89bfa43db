"""What every request to the admin passes: its headers, who sent it, and whether a change was meant."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..web.requests import is_local
from .changes import Changes
from .sessions import Sessions

__all__ = ["CSRF_COOKIE", "SESSION_COOKIE", "Guard", "Visit", "csp_nonce", "visit_of"]

SESSION_COOKIE = "fastapi_sqlalchemy_admin"
CSRF_COOKIE = "starlette_admin_csrftoken"
"""The name that the scripts of starlette-admin look for."""

MAX_BODY = 1_048_576
"""Bytes of a form."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_nonce: ContextVar[str] = ContextVar("admin_csp_nonce", default="")

Authenticate = Callable[[Request], Awaitable[str | None]]


@dataclass(slots=True)
class Visit:
    """What is known of one request: who sent it, and the session cookie that its answer is to set.

    ``token`` is what the browser sent; ``start`` a session that begins with this answer, ``end`` that it has ended.
    """

    address: str
    changes: Changes
    account: str | None = None
    token: str | None = None
    start: str | None = None
    end: bool = False


def visit_of(request: Request) -> Visit:
    """Return what the guard knows of a request."""
    visit = request.scope["fastapi_sqlalchemy.admin"]
    assert isinstance(visit, Visit)
    return visit


def csp_nonce() -> str:
    """Return the nonce of the page that is being made; a script without it does not run."""
    return _nonce.get()


class Guard:
    """ASGI middleware around the admin.

    ``authenticate`` tells who sent a request where the application has its own login; ``open_to_all`` is for an admin
    without any, which then answers to this machine only.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        secret: str,
        sessions: Sessions,
        changes: Changes,
        authenticate: Authenticate | None = None,
        open_to_all: bool = False,
    ) -> None:
        self.app = app
        self.sessions = sessions
        self.changes = changes
        self._secret = secret.encode()
        self._authenticate = authenticate
        self._open = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        nonce = secrets.token_urlsafe(16)
        forget = _nonce.set(nonce)
        visit = Visit(request.client.host if request.client else "", self.changes)
        scope["fastapi_sqlalchemy.admin"] = visit
        secure = request.url.scheme == "https"
        path, is_asset = str(scope.get("root_path", "")), _is_asset(scope)  # a mount in the admin changes the scope
        token = self._csrf_token(request)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                _protect(headers, nonce)
                if is_asset and message["status"] < 400:
                    headers["Cache-Control"] = "public, max-age=3600"
                elif not is_asset:
                    self._set_cookies(headers, request, path, visit, token, secure)
            await send(message)

        try:
            refused = await self._refusal(request, visit)
            if refused is None and request.method not in _SAFE:
                body = await _read(request)
                refused = body if isinstance(body, Response) else await self._check_form(request, body, token)
                if not isinstance(body, Response):
                    receive = _replay(body, receive)
            if refused is not None:
                await refused(scope, receive, answer)
                return
            request.state.csrf_token = self._sign(token)
            await self.app(scope, receive, answer)
        finally:
            _nonce.reset(forget)

    async def _refusal(self, request: Request, visit: Visit) -> Response | None:
        """Find out who it is; an admin without a login is for this machine alone."""
        if self._open:
            if not is_local(request):
                return _plain("This admin has no login and answers to this machine only.", 403)
            visit.account = "local"
            return None
        if _is_asset(request.scope):
            return None
        if self._authenticate is not None:
            visit.account = await self._authenticate(request)
            return None if visit.account else _plain("You may not use the admin.", 403)
        visit.token = request.cookies.get(SESSION_COOKIE)
        if visit.token:
            visit.account = await self.sessions.account(visit.token)
        return None

    async def _check_form(self, request: Request, body: bytes, token: str) -> Response | None:
        """Let a change through that a page of this admin has sent, with the token of this session."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _plain("The request came from another site.", 403)
        given = request.headers.get("x-csrftoken")
        if given is None:
            given = await _form_token(request, body)
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._sign(token).encode()):
            return _plain("The form has expired, or was not one of this admin. Load the page again.", 403)
        return None

    def _csrf_token(self, request: Request) -> str:
        """The random half of the cookie that the browser has, or another one where it was not signed here."""
        random, _, _ = request.cookies.get(CSRF_COOKIE, "").partition(".")
        given = request.cookies.get(CSRF_COOKIE, "")
        session = request.cookies.get(SESSION_COOKIE, "")
        if random and hmac.compare_digest(given.encode("utf-8", "replace"), self._signed(random, session).encode()):
            return f"{random}.{session}"
        return f"{secrets.token_urlsafe(16)}.{session}"

    def _sign(self, token: str) -> str:
        random, _, session = token.partition(".")
        return self._signed(random, session)

    def _signed(self, random: str, session: str) -> str:
        """A token that is good in one session only: a cookie that somebody planted is worth nothing in another."""
        text = f"csrf:{random}:{session}".encode("utf-8", "replace")
        return f"{random}.{hmac.new(self._secret, text, hashlib.sha256).hexdigest()}"

    def _set_cookies(
        self, headers: MutableHeaders, request: Request, path: str, visit: Visit, token: str, secure: bool
    ) -> None:
        if visit.start is not None or visit.end:
            headers.append("Set-Cookie", self._cookie(SESSION_COOKIE, visit.start or "", path, secure, hidden=True))
            token = f"{secrets.token_urlsafe(16)}.{visit.start or ''}"
        if request.cookies.get(CSRF_COOKIE) != self._sign(token):
            headers.append("Set-Cookie", self._cookie(CSRF_COOKIE, self._sign(token), path, secure, hidden=False))

    @staticmethod
    def _cookie(name: str, value: str, path: str, secure: bool, *, hidden: bool) -> str:
        age = "" if value else "; Max-Age=0"
        flags = ("; HttpOnly" if hidden else "") + ("; Secure" if secure else "")
        return f"{name}={value}; Path={path or '/'}{age}; SameSite=Lax{flags}"


def _protect(headers: MutableHeaders, nonce: str) -> None:
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Content-Security-Policy", _POLICY.format(nonce=nonce))


def _is_asset(scope: Scope) -> bool:
    return str(scope["path"]).startswith(f"{scope.get('root_path', '')}/static/")


async def _read(request: Request) -> bytes | Response:
    """Return the whole body, or the answer to one that is too long."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            return _plain(f"The form has more than {MAX_BODY} bytes.", 413)
        chunks.append(chunk)
    return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _form_token(request: Request, body: bytes) -> str:
    """Return the token of a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return ""
    again = Request(request.scope, _replay(body, request.receive))
    async with again.form(max_files=0, max_fields=2000) as form:
        found = form.get("csrftoken")
    return found if isinstance(found, str) else ""


def _plain(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status)
