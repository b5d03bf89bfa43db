"""What the messages of an ASGI response tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import Message

__all__ = ["BODIES", "cors_of", "has_length", "is_event_stream"]

BODIES: Final = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})


def is_event_stream(message: Message) -> bool:
    """Whether the body is a stream of server-sent events (HTML standard, "Server-sent events")."""
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )


def cors_of(message: Message) -> list[tuple[bytes, bytes]]:
    """The headers that tell a browser who may read the response (Fetch standard, "CORS protocol")."""
    headers: Sequence[tuple[bytes, bytes]] = message.get("headers", ())
    return [
        header for header in headers if header[0].lower().startswith(b"access-control-") or header[0].lower() == b"vary"
    ]


def has_length(message: Message) -> bool:
    """Whether the length of the body is known when the response starts."""
    return any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
