"""What belongs to one request: its scopes, kept in the ASGI scope, and what its method tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from starlette.requests import Request

from ..scope import Frame, Scope

__all__ = ["REQUEST_KEY", "expects_writes", "is_local", "is_loopback", "request_scope"]

REQUEST_KEY = "fastapi_sqlalchemy"
"""Where the ASGI scope keeps the request's frame."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def expects_writes(asgi_scope: Mapping[str, Any]) -> bool:
    """Whether the request's method is not a safe one (RFC 9110, 9.2.1)."""
    return asgi_scope["type"] == "http" and asgi_scope["method"] not in _SAFE


def request_scope(asgi_scope: Mapping[str, Any], owner: object) -> Scope | None:
    """The scope that the middleware keeps for ``owner`` in this request, or None."""
    frame: Frame | None = asgi_scope.get(REQUEST_KEY)
    return None if frame is None else frame.scope_of(owner)


def is_local(request: Request) -> bool:
    """Whether a request was sent on this machine, to a name of this machine, and by no proxy."""
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip")):
        return False
    return is_loopback(request.client.host if request.client else "") and is_loopback(request.url.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is only reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
