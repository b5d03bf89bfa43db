"""The tables."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from .database import db


class User(db.Base):
    """A user with a name and a unique address."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(255), unique=True)
