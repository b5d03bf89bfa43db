"""A model base of one's own: shared columns and shared methods for every model."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel as Schema
from sqlalchemy import Column, Integer, String

from fastapi_sqlalchemy import DBSessionMiddleware, ModelBase, SQLAlchemy

db = SQLAlchemy(os.environ.get("DATABASE_URL", "sqlite:///custom.db"))


class BaseModel(ModelBase):
    """What all models of this application share."""

    @classmethod
    def get_or_create(cls, **kwargs: Any) -> BaseModel:
        """The first row with these values, made if there is none."""
        return cls.get(**kwargs) or cls.new(**kwargs)

    def as_dict(self) -> dict[str, Any]:
        """The columns."""
        return dict(self)


class Tag(BaseModel, db.Base):
    """A tag with a unique name."""

    id = Column(Integer, primary_key=True)
    name = Column(String(50), unique=True)


class TagIn(Schema):
    """What is posted."""

    name: str


app = FastAPI(title="Custom model base")
app.add_middleware(DBSessionMiddleware, db=db)


@app.post("/tags")
def post_tag(new: TagIn) -> dict[str, Any]:
    """The tag of this name, made if there is none."""
    return Tag.get_or_create(name=new.name).as_dict()


@app.get("/tags")
def get_tags() -> list[dict[str, Any]]:
    """All tags."""
    return [tag.as_dict() for tag in Tag.get_all()]
