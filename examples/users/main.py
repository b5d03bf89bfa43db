"""Users behind a session middleware, with a first user made at startup; any database by one line."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Boolean, Column, Integer, String
from sqlalchemy.orm import Session

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy

# The one line to change: "postgresql://user:password@server/db", "mysql://user:password@server/db", ...
DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///./users.db")

db = SQLAlchemy(DATABASE_URL)


class User(db.Base):
    """A user; the table is called ``user``, after the class."""

    id = Column(Integer, primary_key=True, index=True)
    email = Column(String(255), unique=True, index=True)
    hashed_password = Column(String(255))
    is_active: Column[bool] = Column(Boolean(), default=True)


class UserOut(BaseModel):
    """What a client may see of a user."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    is_active: bool


def add_first_user() -> None:
    """Make sure that there is a first user."""
    with db():
        if User.query.first() is None:
            User.new(email="johndoe@example.com", hashed_password="notreallyhashed")


def get_user(session: Session, user_id: int) -> User | None:
    """The user with this id, or None; apart from the route, so that it can be used and tested elsewhere."""
    return session.query(User).filter(User.id == user_id).first()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """The tables exist by now: the middleware creates them before the application starts."""
    add_first_user()
    yield


app = FastAPI(title="Users", lifespan=lifespan)
app.add_middleware(DBSessionMiddleware, db=db)


@app.get("/users/{user_id}", response_model=UserOut)
def read_user(user_id: int) -> User:
    """One user, without the password."""
    user = get_user(db.session, user_id)
    if user is None:
        raise HTTPException(status_code=404, detail="User not found")
    return user
