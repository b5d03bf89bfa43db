"""The older API: a URL for the middleware, and the module-level ``db`` in the routes."""

import os

from fastapi import FastAPI
from pydantic import BaseModel

from fastapi_sqlalchemy import DBSessionMiddleware, db

from .models import User

app = FastAPI(title="Legacy")
app.add_middleware(DBSessionMiddleware, db_url=os.environ.get("DATABASE_URL", "sqlite:///example.db"))


class UserCreate(BaseModel):
    """What is posted."""

    name: str
    email: str


@app.get("/users")
def get_users():
    """All users."""
    return db.session.query(User).all()


@app.post("/add_user")
def add_user(user_data: UserCreate) -> dict[str, str]:
    """A new user; the commit is the route's own."""
    db.session.add(User(**user_data.model_dump()))
    db.session.commit()
    return {"message": "User created successfully"}
