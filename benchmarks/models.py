"""The tables and the rows that every contender serves."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict
from sqlalchemy import String, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ROWS = 1_000
URL = os.environ.get("BENCHMARK_URL", "sqlite:///benchmark.db")


class Base(DeclarativeBase):
    """The contenders' common base."""


class User(Base):
    """A row of six columns."""

    __tablename__ = "bench_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(100), unique=True)
    age: Mapped[int]
    city: Mapped[str] = mapped_column(String(50), index=True)
    is_active: Mapped[bool]


class UserOut(BaseModel):
    """What the routes answer with."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    email: str
    age: int
    city: str
    is_active: bool


class UserIn(BaseModel):
    """What is posted."""

    name: str
    email: str
    age: int
    city: str
    is_active: bool = True


def sync_url(url: str) -> str:
    """The URL with the synchronous driver that every contender uses."""
    return url.replace("postgresql://", "postgresql+psycopg://").replace("mysql://", "mysql+pymysql://")


def async_url(url: str) -> str:
    """The URL with the asynchronous driver."""
    return (
        url.replace("sqlite://", "sqlite+aiosqlite://")
        .replace("postgresql://", "postgresql+asyncpg://")
        .replace("mysql://", "mysql+asyncmy://")
    )


def fill(url: str) -> None:
    """Create the table anew with its rows."""
    engine = create_engine(sync_url(url))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            User.__table__.insert(),
            [
                {
                    "id": number,
                    "name": f"User {number}",
                    "email": f"user{number}@example.com",
                    "age": 18 + number % 60,
                    "city": ("Rome", "Oslo", "Lima", "Cairo")[number % 4],
                    "is_active": number % 3 > 0,
                }
                for number in range(1, ROWS + 1)
            ],
        )
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT setval(pg_get_serial_sequence('bench_user', 'id'), 1000000)"))
    engine.dispose()


def empty(url: str) -> None:
    """Drop the table again."""
    engine = create_engine(sync_url(url))
    Base.metadata.drop_all(engine)
    engine.dispose()
