"""The same hand-written for async: the measure of the async ratios."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import selectinload

from benchmarks.models import URL, Author, AuthorOut, User, UserIn, UserOut, async_url

engine = create_async_engine(async_url(URL))
SessionLocal = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


async def get_db() -> AsyncIterator[AsyncSession]:
    async with SessionLocal() as session:
        yield session


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/users/{user_id}", response_model=UserOut)
async def read_user(user_id: int, db: AsyncSession = Depends(get_db)) -> User:
    user = await db.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/users", response_model=list[UserOut])
async def read_users(limit: int = 100, db: AsyncSession = Depends(get_db)) -> list[User]:
    return list(await db.scalars(select(User).order_by(User.id).limit(limit)))


class Counted(BaseModel):
    items: list[UserOut]
    total: int


@app.get("/counted", response_model=Counted)
async def read_counted(limit: int = 100, db: AsyncSession = Depends(get_db)) -> Any:
    users = (await db.scalars(select(User).order_by(User.id).limit(limit))).all()
    return {"items": users, "total": await db.scalar(select(func.count()).select_from(User))}


@app.get("/filtered", response_model=list[UserOut])
async def read_filtered(city: str, limit: int = 20, db: AsyncSession = Depends(get_db)) -> list[User]:
    found = select(User).where(User.city == city).order_by(User.age.desc(), User.id.desc()).limit(limit)
    return list(await db.scalars(found))


@app.get("/authors", response_model=list[AuthorOut])
async def read_authors(limit: int = 20, db: AsyncSession = Depends(get_db)) -> list[Author]:
    found = select(Author).options(selectinload(Author.books)).order_by(Author.id).limit(limit)
    return list(await db.scalars(found))


@app.post("/users", response_model=UserOut, status_code=201)
async def create_user(new: UserIn, db: AsyncSession = Depends(get_db)) -> User:
    user = User(**new.model_dump())
    db.add(user)
    await db.commit()
    return user
