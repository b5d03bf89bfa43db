"""The tables of the demo, and the rows that it starts with."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import ForeignKey, Numeric, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastapi_sqlalchemy import ModelBase, SQLAlchemy


class Base(ModelBase, DeclarativeBase):
    """The base of all models, written out so that type checkers in strict mode follow it."""


class User(Base):
    """A user; ``hashed_password`` is a secret by its name, and no generated route shows it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(255), unique=True)
    hashed_password: Mapped[str | None] = mapped_column(String(255))
    items: Mapped[list[Item]] = relationship(back_populates="owner")


class Item(Base):
    """An item of a user."""

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    owner: Mapped[User] = relationship(back_populates="items")


class Thing(Base):
    """A thing, served by routes written by hand."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)


def database(url: str) -> SQLAlchemy:
    """The database of these models; a clean request commits before its response leaves."""
    return SQLAlchemy(url, model_class=Base, commit_on_exit=True)


def example_rows() -> list[Base]:
    """Three users with their items, and three things."""

    def item(title: str, price: str) -> Item:
        return Item(title=title, price=Decimal(price))

    def user(name: str, *items: Item) -> User:
        return User(name=name, email=f"{name.lower()}@example.com", hashed_password="not shown", items=list(items))

    return [
        user("Ada", item("Compass", "12.50"), item("Sextant", "180.00")),
        user("Bob", item("Lantern", "24.90")),
        user("Cleo", item("Map", "8.00"), item("Telescope", "95.00")),
        *(Thing(text=text) for text in ("hello", "world", "try PUT /things/1")),
    ]
