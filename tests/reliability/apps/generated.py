"""The shop with one door more: generated routes, whose creates meet in groups on SQLite."""

from __future__ import annotations

from fastapi import FastAPI

from fastapi_sqlalchemy.rest import CRUDRouter
from tests.reliability.apps.shop import Item, app, db

generated = FastAPI()
generated.include_router(CRUDRouter(Item, db=db, prefix="/items", operations=("create", "read")))
app.mount("/generated", generated)
