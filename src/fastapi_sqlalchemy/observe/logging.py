"""Logs as one JSON object a line, with the id of the request, and without secrets; by the standard library alone."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import uuid
from contextvars import ContextVar
from typing import IO, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..rest.fields import looks_secret
from ..rest.narrowing import is_dict, is_items
from ..rest.serialize import plain

__all__ = ["JSONFormatter", "RequestIdMiddleware", "log_as_json", "request_id"]

request_id: ContextVar[str | None] = ContextVar("fastapi_sqlalchemy_request_id", default=None)
"""The id of the request that is being served, or None."""

_HEADER = "X-Request-ID"
_ACCEPTED = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_PASSWORD = re.compile(r"(\b[\w+.-]+://[^\s:/@]*:)[^\s/@]+(?=@)")
_ASSIGNED = re.compile(
    r"""(?ix)\b([\w-]*(?:password|passwd|secret|token|api[_-]?key|authorization)[\w-]*["']?\s*[=:]\s*)
    (?:"[^"]*"|'[^']*'|(?:bearer|basic)\s+\S+|[^\s,;&"']+)"""
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_HIDDEN = "***"


class JSONFormatter(logging.Formatter):
    """Writes a record as one line of JSON.

    ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, ``request_id`` where there is one, ``error`` with the
    traceback, and whatever was given as ``extra``. Passwords in URLs, and what is called password, secret, token, key
    or authorization, is replaced by ``***``; so is an extra whose name looks secret.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _without_secrets(record.getMessage()),
        }
        current = request_id.get()
        if current is not None:
            line["request_id"] = current
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in line:
                line[name] = _clean(name, value)
        if record.exc_info:
            line["error"] = _without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=_plain)


class RequestIdMiddleware:
    """Gives every request an id: that of its ``X-Request-ID`` header where it is plain, else a new one.

    The id is in the logs and in the header of the response. Pure ASGI: ``app.add_middleware(RequestIdMiddleware)``,
    as the last one that is added, so that it is the outermost.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(_HEADER, "")
        current = given if _ACCEPTED.fullmatch(given) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message.setdefault("headers", [])
                MutableHeaders(scope=message)[_HEADER] = current
            await send(message)

        token = request_id.set(current)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            request_id.reset(token)


def log_as_json(level: int | str = logging.INFO, stream: IO[str] | None = None) -> logging.Handler:
    """Let the root logger write JSON to ``stream``, the standard error unless given, from ``level`` on.

    It takes the place of the root logger's other handlers, and uvicorn's loggers are handed on to it. Returns the
    handler.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    return handler


def _without_secrets(text: str) -> str:
    return _ASSIGNED.sub(rf"\g<1>{_HIDDEN}", _PASSWORD.sub(rf"\g<1>{_HIDDEN}", text))


def _clean(name: str, value: Any) -> Any:
    if looks_secret(name):
        return _HIDDEN
    if isinstance(value, str):
        return _without_secrets(value)
    if is_dict(value):
        return {str(key): _clean(str(key), item) for key, item in value.items()}
    if is_items(value):
        return [_clean("", item) for item in value]
    return value


def _plain(value: Any) -> Any:
    made = plain(value)
    return _without_secrets(made) if isinstance(made, str) else made
