"""The same with this package, and with fastapi-sqlalchemy 0.2.1, whose names it keeps: commit_on_exit does the rest."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException
from sqlalchemy import create_engine, select, text

from fastapi_sqlalchemy import DBSessionMiddleware, db
from tests.reliability.peers.tables import POOL, URL, Item, ItemIn, ItemOut

engine = create_engine(URL, **POOL)
app = FastAPI()
app.add_middleware(DBSessionMiddleware, custom_engine=engine, commit_on_exit=True)


@app.post("/items", response_model=ItemOut, status_code=201)
def create(new: ItemIn) -> Item:
    item = Item(**new.model_dump())
    db.session.add(item)
    db.session.flush()
    return item


@app.get("/items/{item_id}", response_model=ItemOut)
def read(item_id: int) -> Item:
    item = db.session.get(Item, item_id)
    if item is None:
        raise HTTPException(404)
    return item


@app.get("/items", response_model=list[ItemOut])
def read_all() -> list[Item]:
    return list(db.session.scalars(select(Item).order_by(Item.id).limit(10)))


@app.post("/refused")
def refused(new: ItemIn) -> None:
    db.session.add(Item(**new.model_dump()))
    db.session.flush()
    raise HTTPException(409)


@app.get("/pause")
def pause() -> None:
    db.session.execute(text("SELECT pg_sleep(0.015)"))


@app.get("/checked-out")
async def checked_out() -> int:
    return engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]  # a QueuePool
