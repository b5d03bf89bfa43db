"""Query parameters of the user's dependencies stand beside those of the generated routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, Query
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient

ALL = "lang=de&tenant-id=3&page_color=red&key=k&spoken=x"


class Looks(BaseModel):
    page_color: str = "white"


@pytest.fixture
def client(memory_url: str) -> Iterator[TestClient]:
    """A router with dependencies of its own, of a router around it, and of the application."""
    db = SQLAlchemy(memory_url)

    class Item(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20), unique=True)

    def language(lang: str) -> str:
        return lang

    def speech(_: str = Depends(language), spoken: str = "") -> None:
        return None

    def tenant(tenant: Annotated[int, Query(alias="tenant-id")]) -> None:
        return None

    def looks(looks: Annotated[Looks, Query()]) -> None:
        return None

    def everything(key: str) -> Any:
        return []

    db.create_all()
    inner = CRUDRouter(
        Item, db=db, prefix="/items", bulk=True, aggregates=True, dependencies=[Depends(speech)], scope_query=everything
    )
    outer = APIRouter(dependencies=[Depends(looks)])
    outer.include_router(inner)
    app = FastAPI()
    app.include_router(outer, dependencies=[Depends(tenant)])
    with TestClient(app) as client:
        yield client
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/items?", None, 200),
        ("GET", "/items/1?", None, 200),
        ("PATCH", "/items?name=a&", {"name": "b"}, 200),
        ("GET", "/items/-/aggregate?", None, 200),
        ("POST", "/items/-/upsert?on_conflict=name&", {"name": "a"}, 200),
        ("DELETE", "/items/1?", None, 200),
    ],
)
def test_parameters_of_dependencies_are_none_of_the_routes(
    client: TestClient, method: str, path: str, body: Any, status: int
) -> None:
    made = client.post(f"/items?{ALL}", json={"name": "a"})
    assert made.status_code == 201, made.text
    assert client.request(method, f"{path}{ALL}", json=body).status_code == status
    unknown = client.request(method, f"{path}{ALL}&shape=round", json=body)
    if method == "GET" or "?" in path.rstrip("?"):
        assert unknown.status_code == 422
        assert "shape" in unknown.text
    assert client.request(method, f"{path}{ALL.replace('lang=de&', '')}", json=body).status_code == 422


def test_links_keep_them(client: TestClient) -> None:
    client.post(f"/items?{ALL}", json=[{"name": name} for name in "abc"])
    first = client.get(f"/items?limit=2&{ALL}")
    following = client.get(first.links["next"]["url"])
    assert [row["name"] for row in (*first.json(), *following.json())] == ["a", "b", "c"]
