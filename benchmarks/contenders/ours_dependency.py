"""The tutorial's routes with our dependency."""

from __future__ import annotations

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks.models import URL, User, UserIn, UserOut
from fastapi_sqlalchemy import SQLAlchemy

db = SQLAlchemy(URL)
app = FastAPI()


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/users/{user_id}", response_model=UserOut)
def read_user(user_id: int, session: Session = Depends(db.get_session)) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/users", response_model=list[UserOut])
def read_users(limit: int = 100, session: Session = Depends(db.get_session)) -> list[User]:
    return list(session.scalars(select(User).order_by(User.id).limit(limit)))


@app.post("/users", response_model=UserOut, status_code=201)
def create_user(new: UserIn, session: Session = Depends(db.get_session)) -> User:
    user = User(**new.model_dump())
    session.add(user)
    session.commit()
    session.refresh(user)
    return user
