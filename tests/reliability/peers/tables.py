"""The table that every one of them serves, and what its routes take and give."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["POOL", "URL", "Base", "Item", "ItemIn", "ItemOut"]

URL = os.environ["RELIABILITY_URL"]
POOL = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 30}


class Base(DeclarativeBase):
    pass


class Item(Base):
    """A parent that does not exist is noticed by COMMIT."""

    __tablename__ = "peer_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(60))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("peer_item.id", deferrable=True, initially="DEFERRED"))


class ItemIn(BaseModel):
    name: str
    parent_id: int | None = None


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
