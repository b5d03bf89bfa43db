"""The same resources by `CRUDRouter`, whose routes nobody writes."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.models import URL, Author, Book, User, async_url
from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter

db = SQLAlchemy(URL, async_url=async_url(URL))
app = FastAPI()
app.include_router(CRUDRouter(User, db=db, prefix="/users"))
app.include_router(CRUDRouter(Author, db=db, prefix="/authors"))
app.include_router(CRUDRouter(Book, db=db, prefix="/books"))


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}
