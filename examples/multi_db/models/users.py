"""The users and their database."""

import os

from sqlalchemy import Column, Integer, String

from fastapi_sqlalchemy import SQLAlchemy

user_db = SQLAlchemy(url=os.environ.get("USER_DATABASE_URL", "sqlite:///users.db"))


class User(user_db.Base):
    """A user."""

    __tablename__ = "users"

    id = Column(Integer, primary_key=True)
    name = Column(String(100))
    email = Column(String(255))
