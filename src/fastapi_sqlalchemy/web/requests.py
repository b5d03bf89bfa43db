"""What belongs to one request: its scopes, kept in the ASGI scope, and what its method tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..scope import Frame, Scope

__all__ = ["REQUEST_KEY", "expects_writes", "request_scope"]

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
