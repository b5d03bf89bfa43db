"""The tutorial's routes with fastapi-sqlalchemy 0.2.1 from PyPI, in an environment of its own."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException
from sqlalchemy import select

from benchmarks.models import User, UserIn, UserOut
from benchmarks.urls import URL, sync_url
from fastapi_sqlalchemy import DBSessionMiddleware, db

app = FastAPI()
options = {"connect_args": {"check_same_thread": False}} if URL.startswith("sqlite") else {}
app.add_middleware(DBSessionMiddleware, db_url=sync_url(), engine_args=options)


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/users/{user_id}", response_model=UserOut)
def read_user(user_id: int) -> User:
    user = db.session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/users", response_model=list[UserOut])
def read_users(limit: int = 100) -> list[User]:
    return list(db.session.scalars(select(User).order_by(User.id).limit(limit)))


@app.post("/users", response_model=UserOut, status_code=201)
def create_user(new: UserIn) -> User:
    user = User(**new.model_dump())
    db.session.add(user)
    db.session.commit()
    db.session.refresh(user)
    return user
