"""Two databases behind one application: each model knows its own."""

from fastapi import FastAPI
from pydantic import BaseModel

from fastapi_sqlalchemy import DBSessionMiddleware

from .models.posts import Post, post_db
from .models.users import User, user_db

app = FastAPI(title="Several databases")
app.add_middleware(DBSessionMiddleware, db=[post_db, user_db])


class UserCreate(BaseModel):
    """A new user."""

    name: str
    email: str


class UserUpdate(BaseModel):
    """New values of a user."""

    id: int
    name: str | None = None
    email: str | None = None


class PostCreate(BaseModel):
    """A new post."""

    user_id: int
    title: str
    content: str


@app.get("/users")
def get_users():
    """All users."""
    return User.get_all()


@app.post("/add_user")
def add_user(user_data: UserCreate) -> dict[str, str]:
    """Save a user."""
    User(**user_data.model_dump()).save()
    return {"message": "User created successfully"}


@app.post("/update_user")
def update_user(user_data: UserUpdate) -> dict[str, str]:
    """Change what is given of a user."""
    user = User.get_or_404(id=user_data.id)
    user.update(**user_data.model_dump(exclude={"id"}, exclude_none=True))
    return {"message": "User updated successfully"}


@app.get("/posts")
def get_posts(user_id: int):
    """The posts of a user."""
    return Post.get_all(user_id=user_id)


@app.post("/add_post")
def add_post(post_data: PostCreate) -> dict[str, str]:
    """Save a post of a user who exists."""
    User.get_or_404(post_data.user_id)
    Post(**post_data.model_dump()).save()
    return {"message": "Post created successfully"}
