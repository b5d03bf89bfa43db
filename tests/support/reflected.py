"""An application over a database that exists already, and its lists read whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import Reflection, reflect
from tests.support.client import TestClient

__all__ = ["PAGE", "pages", "serving"]

PAGE = 500


@contextmanager
def serving(url: str, **options: Any) -> Iterator[tuple[TestClient, Reflection]]:
    """An application with the routers of a database."""
    db = SQLAlchemy(url)
    reflection = reflect(db, **options)
    app = FastAPI(docs_url=None, generate_unique_id_function=lambda route: f"{min(route.methods)} {route.path}")
    for router in reflection.routers():
        app.include_router(router)
    try:
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client, reflection
            assert client.portal is not None
            client.portal.call(db.adispose)
    finally:
        db.dispose()


def pages(client: TestClient, path: str, **first: Any) -> list[dict[str, Any]]:
    """All rows, by following the links."""
    found: list[dict[str, Any]] = []
    answer = client.get(path, params={"limit": PAGE, **first})
    while True:
        assert answer.status_code == 200, (path, answer.text)
        found += answer.json()
        following = answer.links.get("next")
        if following is None:
            return found
        answer = client.get(following["url"])
