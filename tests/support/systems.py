"""Applications with a database, of a test or shared by a file of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI

from fastapi_sqlalchemy import SQLAlchemy
from tests.support.caches import empty_caches
from tests.support.client import TestClient

__all__ = ["routed", "running"]

System = TypeVar("System")


@contextmanager
def running(system: System) -> Iterator[System]:
    """Start what has a ``db`` and a ``client``, with empty tables; nothing is left of it at the end."""
    held: Any = system
    held.db.drop_all(confirmed=True)
    held.db.create_all()
    with held.client:
        yield system
        assert held.client.portal is not None
        held.client.portal.call(held.db.adispose)
    held.db.drop_all(confirmed=True)
    empty_caches()
    held.db.dispose()


@contextmanager
def routed(db: SQLAlchemy, *routers: APIRouter) -> Iterator[TestClient]:
    """A client of an application with these routers, whose tables are created; no connection is left at the end."""
    app = FastAPI()
    for router in routers:
        app.include_router(router)
    db.create_all()
    with TestClient(app) as client:
        yield client
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()
