"""Things: an async CRUD API on one table."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Text, select
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import AsyncSession, SQLAlchemy
from fastapi_sqlalchemy.web.health import health_router

db = SQLAlchemy(os.environ.get("DATABASE_URL", "sqlite:///./things.sqlite3"), commit_on_exit=True)
app = FastAPI(title="Things", lifespan=db.lifespan)
app.include_router(health_router(db))

SessionDep = Annotated[AsyncSession, Depends(db.get_async_session)]


class Thing(db.Base):
    """A thing has a text."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)


class ThingIn(BaseModel):
    """What is sent: the id is the database's own."""

    text: str


class ThingOut(ThingIn):
    """What is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: int


async def existing(id: int, session: SessionDep) -> Thing:  # noqa: A002  # the name in the path
    """The thing of the path; 404 where there is none."""
    thing = await session.get(Thing, id)
    if thing is None:
        raise HTTPException(status_code=404, detail="Thing not found")
    return thing


ThingDep = Annotated[Thing, Depends(existing)]


@app.get("/things", response_model=list[ThingOut])
async def get_things(session: SessionDep) -> list[Thing]:
    """All things."""
    return list(await session.scalars(select(Thing).order_by(Thing.id)))


@app.get("/things/{id}", response_model=ThingOut)
async def get_thing(thing: ThingDep) -> Thing:
    """One thing."""
    return thing


@app.post("/things", response_model=ThingOut, status_code=201)
async def post_thing(new: ThingIn, session: SessionDep) -> Thing:
    """A new thing; it is committed before the 201 leaves."""
    thing = Thing(text=new.text)
    session.add(thing)
    await session.flush()
    return thing


@app.put("/things/{id}", response_model=ThingOut)
async def put_thing(thing: ThingDep, new: ThingIn) -> Thing:
    """Replace a thing."""
    thing.text = new.text
    return thing


@app.delete("/things/{id}", status_code=204)
async def delete_thing(thing: ThingDep, session: SessionDep) -> None:
    """Delete a thing."""
    await session.delete(thing)
