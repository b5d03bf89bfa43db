"""Requests straight into an application, without a server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

__all__ = ["call"]


async def call(app: Any, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    """One request; returns its status and body."""
    content = b"" if body is None else json.dumps(body).encode()
    status = 0
    received = b""

    async def receive() -> Any:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, received
        await asyncio.sleep(0)
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            received += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")] if body is not None else [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "root_path": "",
    }
    await app(scope, receive, send)
    return status, received
