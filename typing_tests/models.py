"""What type checkers see of a model: its columns, `query`, `session` and every helper."""

from __future__ import annotations

from typing import assert_type

from sqlalchemy.orm import DeclarativeBase, Mapped, Query, mapped_column

from fastapi_sqlalchemy import ModelBase, Session, SQLAlchemy


class Base(ModelBase, DeclarativeBase):
    pass


db = SQLAlchemy("sqlite://", model_class=Base)


class User(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    age: Mapped[int | None]


class Loud(User):
    def save(self) -> Loud:
        self.name = self.name.upper()
        return super().save()


def columns(user: User) -> None:
    assert_type(user.id, int)
    assert_type(user.name, str)
    assert_type(user.age, int | None)


def finding() -> None:
    assert_type(User.query, Query[User])
    assert_type(User.query.first(), User | None)
    assert_type(User.query.filter_by(name="a").all(), list[User])
    assert_type(User.get(1), User | None)
    assert_type(User.get(User.age > 18), User | None)
    assert_type(User.get(User.age > 18, User.name == "a"), User | None)
    assert_type(User.get(name="a"), User | None)
    assert_type(User.get_all(), list[User])
    assert_type(User.get_all(User.age > 18, name="a"), list[User])
    assert_type(User.get_or_404(1), User)


def storing(user: User, loud: Loud) -> None:
    assert_type(User.new(name="a"), User)
    assert_type(user.save(), User)
    assert_type(user.save().name, str)
    assert_type(user.update(name="b"), User)
    assert_type(loud.save(), Loud)
    assert_type(loud.update(name="b"), Loud)
    user.delete()
    assert_type(user.query, Query[User])
    assert_type(user.session, Session)
    assert_type(User.session, Session)


async def awaiting(user: User) -> None:
    assert_type(await User.anew(name="a"), User)
    assert_type(await User.aget(1), User | None)
    assert_type(await User.aget_all(User.age > 18), list[User])
    assert_type(await User.aget_or_404(1), User)
    assert_type(await user.asave(), User)
    assert_type(await user.aupdate(name="b"), User)
    await user.adelete()
