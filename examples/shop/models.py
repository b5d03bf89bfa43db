"""The tables of the shop."""

from __future__ import annotations

import os
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastapi_sqlalchemy import ModelBase, SQLAlchemy
from fastapi_sqlalchemy.models.mixins import TimestampMixin


class Base(ModelBase, DeclarativeBase):
    """The base of all models, written out so that type checkers in strict mode follow it."""


db = SQLAlchemy(os.environ.get("DATABASE_URL", "sqlite:///./shop.db"), model_class=Base, commit_on_exit=True)


class User(Base):
    """A customer; the hash of the token is a secret by its name, which no generated route shows."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(255), unique=True)
    is_staff: Mapped[bool] = mapped_column(default=False)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    orders: Mapped[list[Order]] = relationship(back_populates="owner")


class Item(Base):
    """Something to buy, as long as there is stock."""

    __table_args__ = (CheckConstraint("stock >= 0", name="stock"), CheckConstraint("price >= 0", name="price"))

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100), unique=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    stock: Mapped[int] = mapped_column(default=0)


class Order(TimestampMixin, Base):
    """An item in some quantity, bought by its owner."""

    __tablename__ = "orders"  # ORDER is a word of SQL
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), index=True)
    quantity: Mapped[int] = mapped_column(default=1)
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    owner: Mapped[User] = relationship(back_populates="orders")
    item: Mapped[Item] = relationship()
