"""The same hand-written for async: the measure of the async ratios."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from benchmarks.models import URL, User, UserIn, UserOut, async_url

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


@app.post("/users", response_model=UserOut, status_code=201)
async def create_user(new: UserIn, db: AsyncSession = Depends(get_db)) -> User:
    user = User(**new.model_dump())
    db.add(user)
    await db.commit()
    return user
