"""The helpers of a model: find, save, change and delete, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import DBSessionMiddleware, ModelBase, SQLAlchemy
from fastapi_sqlalchemy.exceptions import MissingSessionError, UnknownAttributeError
from tests.support.client import TestClient
from tests.support.doors import count_rows


@pytest.fixture
def bench(sqlite_url: str) -> tuple[SQLAlchemy, Any]:
    db = SQLAlchemy(sqlite_url)
    return db, _user(db)


def _user(db: SQLAlchemy) -> Any:
    class User(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(50), unique=True)
        age: Mapped[int | None]
        created: Mapped[str] = mapped_column(sa.String(50), server_default="now")

        def greet(self) -> str:
            return f"I am {self.name}"

    db.create_all()
    return User


def test_the_sync_helpers(database_url: str) -> None:
    db = SQLAlchemy(database_url)
    User = _user(db)
    with db():
        ann = User.new(name="Ann", age=30)
        bob = User(name="Bob", age=40).save()
        assert (type(bob).__name__, bob.created) == ("User", "now")
        assert User.get(ann.id) is ann
        assert User.get(name="Bob") is bob
        assert User.get(User.age > 35) is bob
        assert User.get(User.age > 35, name="Ann") is None
        assert User.get(10**6) is None
        assert User.get(None) is None
        assert {user.name for user in User.get_all()} == {"Ann", "Bob"}
        assert User.get_all(User.age < 35) == [ann]
        assert User.get_all(age=40, name="Bob") == [bob]
        assert User.get_or_404(ann.id) is ann
        assert ann.update(age=31, name="Anna") is ann
        assert bob.delete() is None
        assert [(user.name, user.age) for user in User.query.order_by(User.id)] == [("Anna", 31)]
    assert count_rows(db, User) == 1


def test_the_async_twins(database_url: str) -> None:
    db = SQLAlchemy(database_url)
    User = _user(db)

    async def main() -> None:
        async with db():
            ann = await User.anew(name="Ann", age=30)
            bob = await User(name="Bob", age=40).asave()
            assert bob.created == "now"
            assert await User.aget(ann.id) is ann
            assert await User.aget(name="Bob") is bob
            assert await User.aget(User.age > 35) is bob
            assert await User.aget(10**6) is None
            assert {user.name for user in await User.aget_all()} == {"Ann", "Bob"}
            assert await User.aget_all(User.age < 35) == [ann]
            assert await User.aget_or_404(ann.id) is ann
            with pytest.raises(HTTPException):
                await User.aget_or_404(10**6)
            assert await ann.aupdate(age=31) is ann
            assert await bob.adelete() is None
            assert ann.session is db.async_session.sync_session
        await db.adispose()

    asyncio.run(main())
    with db():
        assert [(user.name, user.age) for user in User.get_all()] == [("Ann", 31)]


def test_an_absent_row_is_a_404(bench: Any) -> None:
    db, User = bench
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/{key}")
    def endpoint(key: int) -> str:
        return str(User.get_or_404(key).name)

    with TestClient(app) as client:
        answer = client.get("/1")
        assert (answer.status_code, answer.json()) == (404, {"detail": "User not found"})


def test_each_commits_at_once(bench: Any) -> None:
    db, User = bench
    with db():
        user = User.new(name="a")
        assert count_rows(db, User) == 1
        user.update(age=5)
        with db.engine.connect() as other:
            assert other.scalar(sa.select(User.age)) == 5
        user.delete()
        assert count_rows(db, User) == 0


@pytest.mark.parametrize("unit", ["commit_on_exit", "transaction", "session.begin"])
def test_each_flushes_inside_a_unit_that_commits_later(bench: Any, unit: str) -> None:
    db, User = bench
    with db(commit_on_exit=unit == "commit_on_exit"):
        context: Any = {"transaction": db.transaction, "session.begin": lambda: db.session.begin()}.get(unit, db)
        if unit == "commit_on_exit":
            user = User.new(name="a")
            assert user.id is not None
            assert count_rows(db, User) == 0
        else:
            with context():
                assert User.new(name="a").update(age=3).id is not None
                assert count_rows(db, User) == 0
            assert count_rows(db, User) == 1
    assert count_rows(db, User) == 1


def test_a_save_that_fails_is_rolled_back_and_the_session_goes_on(bench: Any) -> None:
    db, User = bench
    with db():
        User.new(name="a")
        with pytest.raises(sa.exc.IntegrityError):
            User.new(name="a")
        User.new(name="b")
    assert count_rows(db, User) == 2


@pytest.mark.parametrize("name", ["nmae", "_sa_instance_state", "query", "save", "metadata", "registry", "__class__"])
def test_update_refuses_an_unknown_attribute_and_changes_nothing(bench: Any, name: str) -> None:
    db, User = bench
    with db():
        user = User.new(name="a")
        with pytest.raises(TypeError, match=name) as caught:
            user.update(name="changed", **{name: 1})
        assert isinstance(caught.value, UnknownAttributeError)
        assert user.name == "a"
        assert not db.session.dirty


@pytest.mark.parametrize(
    "find",
    [
        lambda User: User.get(nmae="a"),
        lambda User: User.get_all(nmae="a"),
        lambda User: User.get(greet="a"),
        lambda User: User.get(1, 2),
        lambda User: User.get(1, name="a"),
        lambda User: User.get_all(1),
        lambda User: User(nmae="a"),
        lambda User: User.new(nmae="a"),
    ],
)
def test_a_wrong_name_or_a_key_among_criteria_is_a_type_error(bench: Any, find: Any) -> None:
    db, User = bench
    with db(), pytest.raises(TypeError):
        find(User)


def test_composite_keys(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class Seat(db.Base):
        row: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)

    db.create_all()
    with db():
        seat = Seat.new(row=1, number=2)
        assert Seat.get((1, 2)) is seat
        assert Seat.get({"row": 1, "number": 2}) is seat
        assert Seat.get(row=1, number=2) is seat
        assert Seat.get((2, 1)) is None


def test_relations_that_load_by_a_join_do_not_multiply_rows(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class Parent(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        children: Mapped[list[Any]] = relationship("Child", lazy="joined", order_by="Child.id")

    class Child(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(sa.ForeignKey("parent.id"))

    db.create_all()
    with db():
        Parent.new(name="a", children=[Child(), Child()])
    with db():
        assert len(Parent.get(name="a").children) == 2
        assert len(Parent.get_all()) == 1


def test_all_of_them_can_be_overridden_in_a_base_of_the_user(sqlite_url: str) -> None:
    class Base(ModelBase):
        calls: list[str] = []

        @classmethod
        def new(cls, **values: Any) -> Any:
            cls.calls.append("new")
            row = cls(**values)
            row.save()
            return row

        @classmethod
        def get(cls, **equal: Any) -> Any:  # type: ignore[override]
            cls.calls.append("get")
            return cls.query.filter_by(**equal).first()

        @classmethod
        def get_all(cls, **equal: Any) -> Any:  # type: ignore[override]
            cls.calls.append("get_all")
            return cls.query.filter_by(**equal).all()

        def save(self) -> Any:
            self.calls.append("save")
            return super().save()

        def update(self, **values: Any) -> Any:
            self.calls.append("update")
            for name, value in values.items():
                setattr(self, name, value)
            self.save()
            return self

        def delete(self) -> None:
            self.calls.append("delete")
            super().delete()

    db = SQLAlchemy(sqlite_url)

    class User(Base, db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    db.create_all()
    with db():
        user = User.new(name="a")
        assert User.get(name="a") is user
        assert User.get_all() == [user]
        assert User.get_or_404(name="a") is user
        user.update(name="b").delete()
    assert Base.calls == ["new", "save", "get", "get_all", "get", "update", "save", "delete"]


def test_without_a_scope_the_error_names_the_cure(bench: Any) -> None:
    _, User = bench
    for use in (
        lambda: User.query,
        lambda: User.get(1),
        lambda: User.get_all(),
        lambda: User.new(name="a"),
        lambda: User(name="a").session,
    ):
        with pytest.raises(MissingSessionError, match=r"with db\(\)"):
            use()


def test_helpers_of_an_inner_scope_use_the_inner_session(bench: Any) -> None:
    db, User = bench
    with db():
        outer = User.new(name="a")
        with db():
            inner = User.get(name="a")
            assert inner is not outer
            assert (inner.session is db.session, outer.session is db.session) == (True, False)


def test_expired_objects_are_whole_again_after_save(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url, expire_on_commit=True)
    User = _user(db)

    async def main() -> None:
        async with db():
            user = await User.anew(name="a")
            assert (user.id, user.name, user.created) == (1, "a", "now")
            assert (await user.aupdate(age=7)).age == 7
        await db.adispose()

    asyncio.run(main())
