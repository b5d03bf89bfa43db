"""One database: a query and a save in routes, without a session in sight."""

from fastapi import FastAPI
from pydantic import BaseModel

from fastapi_sqlalchemy import DBSessionMiddleware

from .models import User, db

app = FastAPI(title="Single database")
app.add_middleware(DBSessionMiddleware, db=db)


class UserCreate(BaseModel):
    """What is posted."""

    name: str
    email: str


@app.get("/users")
def get_users():
    """All users."""
    return User.query.all()


@app.post("/add_user")
def add_user(user_data: UserCreate) -> dict[str, str]:
    """A new user."""
    user = User(**user_data.model_dump())
    user.save()
    return {"message": "User created successfully"}


@app.get("/users/{user_id}")
def get_user(user_id: int):
    """One user, or a 404."""
    return User.get_or_404(user_id)
