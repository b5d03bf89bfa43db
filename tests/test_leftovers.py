"""A database that nobody refers to any more is gone, with its models, engines and connections."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.caches import empty_caches
from tests.support.client import TestClient


def used_synchronously(db: SQLAlchemy, model: Any) -> None:
    with db(commit_on_exit=True):
        db.session.add(model())
    with db():
        assert db.session.scalars(sa.select(model)).all()


def used_asynchronously(db: SQLAlchemy, model: Any) -> None:
    async def use() -> None:
        async with db(commit_on_exit=True):
            db.async_session.add(model())
        async with db():
            assert (await db.async_session.scalars(sa.select(model))).all()

    asyncio.run(use())


def used_by_an_application(db: SQLAlchemy, model: Any) -> None:
    app = FastAPI(lifespan=db.lifespan)
    app.add_middleware(DBSessionMiddleware, db=db)
    app.include_router(CRUDRouter(model, db=db, prefix="/items"))
    with TestClient(app) as client:
        assert client.post("/items", json={}).status_code == 201
        assert len(client.get("/items?id__gt=0&count=exact").json()) == 1
        assert client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("use", [used_synchronously, used_asynchronously, used_by_an_application])
def test_a_database_that_nobody_refers_to_is_gone(database_url: str, use: Any) -> None:
    def make() -> list[weakref.ref[Any]]:
        db = SQLAlchemy(database_url)

        class Item(db.Base):
            id: Mapped[int] = mapped_column(primary_key=True)

        db.create_all()
        use(db, Item)
        return [weakref.ref(db), weakref.ref(db.engine), weakref.ref(db.source), weakref.ref(Item)]

    made = make()
    empty_caches()
    gc.collect()
    assert [found for reference in made if (found := reference()) is not None] == []
