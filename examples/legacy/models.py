"""Models in the older style: on the module-level database, with the helper base class named."""

from sqlalchemy import Column, Integer, String

from fastapi_sqlalchemy import ModelBase, db


class User(ModelBase, db.Base):
    """A user."""

    __tablename__ = "users"

    id = Column(Integer, primary_key=True)
    name = Column(String(100))
    email = Column(String(255))

    def __repr__(self) -> str:
        return f"User(id={self.id}, name='{self.name}', email='{self.email}')"
