"""FastAPI and SQLAlchemy as in the tutorials: a session by dependency, a commit in the route."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session, sessionmaker

from tests.reliability.peers.tables import POOL, URL, Item, ItemIn, ItemOut

engine = create_engine(URL, **POOL)
make_session = sessionmaker(bind=engine)
app = FastAPI()


def get_db() -> Iterator[Session]:
    db = make_session()
    try:
        yield db
    finally:
        db.close()


@app.post("/items", response_model=ItemOut, status_code=201)
def create(new: ItemIn, db: Session = Depends(get_db)) -> Item:
    item = Item(**new.model_dump())
    db.add(item)
    db.commit()
    db.refresh(item)
    return item


@app.get("/items/{item_id}", response_model=ItemOut)
def read(item_id: int, db: Session = Depends(get_db)) -> Item:
    item = db.get(Item, item_id)
    if item is None:
        raise HTTPException(404)
    return item


@app.get("/items", response_model=list[ItemOut])
def read_all(db: Session = Depends(get_db)) -> list[Item]:
    return list(db.scalars(select(Item).order_by(Item.id).limit(10)))


@app.post("/refused")
def refused(new: ItemIn, db: Session = Depends(get_db)) -> None:
    db.add(Item(**new.model_dump()))
    db.flush()
    raise HTTPException(409)


@app.get("/pause")
def pause(db: Session = Depends(get_db)) -> None:
    db.execute(text("SELECT pg_sleep(0.015)"))


@app.get("/checked-out")
async def checked_out() -> int:
    return engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]  # a QueuePool
