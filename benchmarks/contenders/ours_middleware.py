"""The tutorial's routes with our middleware and ``db.session``."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException
from sqlalchemy import select

from benchmarks.models import URL, User, UserIn, UserOut
from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy

db = SQLAlchemy(URL)
app = FastAPI()
app.add_middleware(DBSessionMiddleware, db=db)


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
