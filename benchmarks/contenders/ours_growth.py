"""`CRUDRouter` with pages of any size, and the cursor of any place for the benchmark of growth."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.models import URL, User, async_url
from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from fastapi_sqlalchemy.rest.query import Cursor, Ordering

db = SQLAlchemy(URL, async_url=async_url(URL), pool_timeout=30)
app = FastAPI()
router = CRUDRouter(User, db=db, prefix="/users", max_page_size=10_000)
app.include_router(router)


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/deep/{row}")
async def deep(row: int) -> dict[str, str]:
    """The path of the page that starts at a row."""
    ordering = Ordering(router.resource, (), db.engine.dialect)
    cursor = ordering.encode(Cursor((row - 1,), position=row - 1))
    return {"path": f"/users?limit=100&cursor={cursor}"}
