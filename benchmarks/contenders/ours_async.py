"""The async tutorial's routes with our async dependency."""

from __future__ import annotations

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select

from benchmarks.models import URL, User, UserIn, UserOut, async_url
from fastapi_sqlalchemy import AsyncSession, SQLAlchemy

db = SQLAlchemy(async_url(URL))
app = FastAPI()


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/users/{user_id}", response_model=UserOut)
async def read_user(user_id: int, session: AsyncSession = Depends(db.get_async_session)) -> User:
    user = await session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/users", response_model=list[UserOut])
async def read_users(limit: int = 100, session: AsyncSession = Depends(db.get_async_session)) -> list[User]:
    return list(await session.scalars(select(User).order_by(User.id).limit(limit)))


@app.post("/users", response_model=UserOut, status_code=201)
async def create_user(new: UserIn, session: AsyncSession = Depends(db.get_async_session)) -> User:
    user = User(**new.model_dump())
    session.add(user)
    await session.commit()
    return user
