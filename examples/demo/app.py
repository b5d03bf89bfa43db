"""Users, items and things on one page of docs, filled with a few rows."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select

from fastapi_sqlalchemy import AsyncSession, Session
from fastapi_sqlalchemy.rest import CRUDRouter
from fastapi_sqlalchemy.web.health import health_router

from .models import Item, Thing, User, database, example_rows
from .page import start_page

DATABASE_URL = os.environ.get("DATABASE_URL") or f"sqlite:///{Path('.demo').absolute() / 'demo.db'}"

db = database(DATABASE_URL)
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}


def fill(session: Session) -> None:
    """Add a few rows to an empty database."""
    if session.scalars(select(User).limit(1)).first() is None:
        session.add_all(example_rows())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Tables first, then the rows."""
    async with db.lifespan(app):
        await db.run(fill)
        yield


app = FastAPI(
    title="FastAPI-SQLAlchemy demo",
    description="Users and items by routes generated from models, things by routes written by hand.",
    lifespan=lifespan,
)
app.include_router(CRUDRouter(User, db=db, prefix="/users", tags=["users"]))
app.include_router(CRUDRouter(Item, db=db, prefix="/items", tags=["items"], aggregates=True))

SessionDep = Annotated[AsyncSession, Depends(db.get_async_session)]


class ThingIn(BaseModel):
    """What is sent."""

    text: str = Field(max_length=2000)


class ThingOut(ThingIn):
    """What is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: int


async def existing_thing(thing_id: int, session: SessionDep) -> Thing:
    """The thing of the path; 404 where there is none."""
    thing = await session.get(Thing, thing_id)
    if thing is None:
        raise HTTPException(status_code=404, detail="Thing not found")
    return thing


ThingDep = Annotated[Thing, Depends(existing_thing)]


@app.get("/things", response_model=list[ThingOut], tags=["things"])
async def get_things(session: SessionDep) -> Sequence[Thing]:
    """All things."""
    return (await session.scalars(select(Thing).order_by(Thing.id))).all()


@app.get("/things/{thing_id}", response_model=ThingOut, tags=["things"])
async def get_thing(thing: ThingDep) -> Thing:
    """One thing."""
    return thing


@app.post("/things", response_model=ThingOut, status_code=201, tags=["things"])
async def post_thing(new: ThingIn, session: SessionDep) -> Thing:
    """A new thing, committed before the 201 leaves."""
    thing = Thing(text=new.text)
    session.add(thing)
    await session.flush()
    return thing


@app.put("/things/{thing_id}", response_model=ThingOut, tags=["things"])
async def put_thing(thing: ThingDep, new: ThingIn) -> Thing:
    """Replace a thing."""
    thing.text = new.text
    return thing


@app.delete("/things/{thing_id}", status_code=204, tags=["things"])
async def delete_thing(thing: ThingDep, session: SessionDep) -> None:
    """Delete a thing."""
    await session.delete(thing)


app.include_router(health_router(db))


@app.get("/", include_in_schema=False)
async def start(request: Request, session: SessionDep) -> HTMLResponse:
    """Where to go from here."""
    rows = {
        "user": await session.scalar(select(func.count(User.id))) or 0,
        "item": await session.scalar(select(func.count(Item.id))) or 0,
        "thing": await session.scalar(select(func.count(Thing.id))) or 0,
    }
    return HTMLResponse(
        start_page(database=NAMES.get(db.url.get_backend_name(), "SQL"), rows=rows, host=request.url.netloc)
    )
