"""`CRUDRouter` on PostgreSQL with psycopg, the driver that is used where nobody asks for another."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.models import URL, Author, Book, User
from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter

db = SQLAlchemy(URL)
app = FastAPI()
app.include_router(CRUDRouter(User, db=db, prefix="/users"))
app.include_router(CRUDRouter(Author, db=db, prefix="/authors"))
app.include_router(CRUDRouter(Book, db=db, prefix="/books"))


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}
