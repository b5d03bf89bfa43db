"""One database and its models."""

import os

from sqlalchemy import Column, Integer, String

from fastapi_sqlalchemy import SQLAlchemy

db = SQLAlchemy(url=os.environ.get("DATABASE_URL", "sqlite:///example.db"))


class User(db.Base):
    """A user."""

    __tablename__ = "users"

    id = Column(Integer, primary_key=True)
    name = Column(String(100))
    email = Column(String(255))

    def __repr__(self) -> str:
        return f"User(id={self.id}, name='{self.name}', email='{self.email}')"
