"""The PostgREST client of Python, with an application at the other end instead of a server."""

from __future__ import annotations

from typing import Any

import httpx
from postgrest import SyncPostgrestClient

from tests.support.client import TestClient

__all__ = ["postgrest_client"]


class Transport(httpx.BaseTransport):
    """Hands requests on to a test client."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.client.request(
            request.method,
            request.url.raw_path.decode("ascii"),
            headers=request.headers.multi_items(),
            content=request.read(),
        )
        return httpx.Response(response.status_code, headers=response.headers.multi_items(), content=response.content)


def postgrest_client(client: TestClient, prefix: str = "/rest/v1", **headers: str) -> Any:
    """A client for the application behind a test client; a 503 is not tried again."""
    base = f"http://testserver{prefix}"
    session = httpx.Client(base_url=base, headers=headers, transport=Transport(client))
    return SyncPostgrestClient(base, headers=headers, http_client=session, retry_enabled=False)
