"""The database, the base of its models, and the session that a route asks for."""

from typing import Annotated

from fastapi import Depends
from fastapi_sqlalchemy import ${imports}
from sqlalchemy.orm import DeclarativeBase

from app.settings import settings


class Base(ModelBase, DeclarativeBase):
    """What the models have in common."""


db = SQLAlchemy(
    settings.database_url.get_secret_value(),
    model_class=Base,
    commit_on_exit=True,
    migrations="check",
)

SessionDep = Annotated[${session}, Depends(db.${get_session})]
