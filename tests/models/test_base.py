"""`ModelBase` and ``db.Base``: every way to declare a model, and what a model looks like from outside."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Column, Integer, String
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    column_property,
    declared_attr,
    mapped_column,
    relationship,
)

from fastapi_sqlalchemy import DBSessionMiddleware, ModelBase, SQLAlchemy
from fastapi_sqlalchemy.exceptions import MissingSessionError, ReservedNameError
from tests.support.client import TestClient


class Custom(ModelBase):
    def shout(self) -> str:
        return f"{self.name}!"  # type: ignore[attr-defined]


class Deeper(Custom):
    pass


class Strict(ModelBase, DeclarativeBase):
    pass


BASES: dict[str, Any] = {
    "db.Base": lambda db: (db.Base,),
    "db.BaseModel": lambda db: (db.BaseModel,),
    "ModelBase, db.Base": lambda db: (ModelBase, db.Base),
    "db.Base, ModelBase": lambda db: (db.Base, ModelBase),
    "MyBase, db.Base": lambda db: (Custom, db.Base),
    "MyDeeperBase, db.Base": lambda db: (Deeper, db.Base),
    "MyDeeperBase, MyBase, ModelBase, db.Base": lambda db: (Deeper, Custom, ModelBase, db.Base),
}


@pytest.mark.parametrize("style", BASES)
@pytest.mark.parametrize("columns", ["Mapped", "Column"])
def test_every_style_of_base_class_and_column_builds_and_works(sqlite_url: str, style: str, columns: str) -> None:
    db = SQLAlchemy(sqlite_url)
    namespace: dict[str, Any] = {"__module__": __name__}
    if columns == "Column":
        namespace |= {"id": Column(Integer, primary_key=True), "name": Column(String(20))}
    else:
        namespace |= {
            "__annotations__": {"id": Mapped[int], "name": Mapped[str]},
            "id": mapped_column(primary_key=True),
            "name": mapped_column(String(20)),
        }
    User = type(db.Base)("UserAccount", BASES[style](db), namespace)
    assert User.__tablename__ == "user_account"
    assert issubclass(User, ModelBase)
    db.create_all()
    with db():
        user = User.new(name="a")
        assert User.get(user.id) is user
        assert User.query.count() == 1
        if "My" in style:
            assert user.shout() == "a!"


def test_a_class_statement_with_model_base_first_builds(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class User(ModelBase, db.Base):
        id = Column(Integer, primary_key=True)

    class Admin(Custom, db.Base):
        __tablename__ = "boss"
        id = Column(Integer, primary_key=True)

    assert (User.__tablename__, Admin.__tablename__) == ("user", "boss")


def test_a_declarative_base_of_the_user_is_handed_over(sqlite_url: str) -> None:
    class Base(ModelBase, DeclarativeBase):
        pass

    class User(Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    db = SQLAlchemy(sqlite_url, model_class=Base)
    assert db.Base is Base
    assert db.metadata is Base.metadata
    db.create_all()
    with db():
        assert User.new(id=1).id == 1


def test_a_model_of_no_database_says_so() -> None:
    class Lonely(Strict):
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MissingSessionError, match="model_class=Base"):
        _ = Lonely.query


def test_dataclass_models_build_and_work(sqlite_url: str) -> None:
    class Base(MappedAsDataclass, ModelBase, DeclarativeBase):
        pass

    db = SQLAlchemy(sqlite_url, model_class=Base)

    class User(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str] = mapped_column(default="nobody")

    db.create_all()
    with db():
        user = User.new(name="a")
        assert (user.id, User("b").name, dict(user)) == (1, "b", {"id": 1, "name": "a"})


def test_a_single_model_may_be_a_dataclass(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class User(MappedAsDataclass, db.Base):
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str] = mapped_column(default="nobody")

    class Plain(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    db.create_all()
    with db():
        assert (User.new(name="a").id, User("b").name, Plain.new().id) == (1, "b", 1)


# Names.


def test_table_names_are_generated_and_an_explicit_one_wins(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class HTTPServerLog(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Explicit(db.Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Declared(db.Base):
        @declared_attr.directive
        def __tablename__(cls) -> str:
            return "declared_" + cls.__name__.lower()

        id: Mapped[int] = mapped_column(primary_key=True)

    class Abstract(db.Base):
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)

    class Concrete(Abstract):
        pass

    assert set(db.metadata.tables) == {"http_server_log", "things", "declared_declared", "concrete"}


def test_mixins_give_columns_and_no_table(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class Named:
        name: Mapped[str] = mapped_column(String(20))

        @declared_attr
        def owner_id(cls) -> Mapped[int | None]:
            return mapped_column(sa.ForeignKey("owner.id"))

    class Owner(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Pet(Named, db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert set(db.metadata.tables) == {"owner", "pet"}
    assert set(db.metadata.tables["pet"].columns.keys()) == {"id", "name", "owner_id"}


def test_joined_and_single_table_inheritance(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class Person(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Manager(Person):
        level: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "manager"}

    class SalesEngineer(Person):
        id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)
        quota: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "engineer"}

    assert set(db.metadata.tables) == {"person", "sales_engineer"}
    db.create_all()
    with db():
        Manager.new(level=3)
        engineer = SalesEngineer.new(quota=5)
    with db():
        assert {type(person).__name__ for person in Person.get_all()} == {"Manager", "SalesEngineer"}
        assert dict(SalesEngineer.get(engineer.id)) == {"id": engineer.id, "kind": "engineer", "quota": 5}
        assert [manager.level for manager in Manager.get_all()] == [3]


def test_constraints_follow_the_naming_convention(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class Owner(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Item(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column(unique=True)
        owner_id: Mapped[int] = mapped_column(sa.ForeignKey("owner.id"), index=True)

    table = Item.__table__
    assert {str(constraint.name) for constraint in table.constraints} == {
        "pk_item",
        "uq_item_code",
        "fk_item_owner_id_owner",
    }
    assert {index.name for index in table.indexes} == {"ix_item_owner_id"}


RESERVED = ["query", "session", "get", "get_all", "get_or_404", "new", "save", "update", "delete", "asave", "aget"]


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("style", ["Column", "Mapped", "annotation only", "mixin", "__table__"])
def test_a_column_named_like_a_helper_is_refused_with_the_cure(sqlite_url: str, name: str, style: str) -> None:
    db = SQLAlchemy(sqlite_url)
    namespace: dict[str, Any] = {"__module__": __name__}
    bases: tuple[type, ...] = (db.Base,)
    if style == "__table__":
        namespace["__table__"] = sa.Table(
            "bad", db.metadata, Column("id", Integer, primary_key=True), Column(name, String)
        )
    else:
        namespace["id"] = Column(Integer, primary_key=True)
    if style == "Column":
        namespace[name] = Column(String)
    elif style == "Mapped":
        namespace |= {"__annotations__": {name: Mapped[str]}, name: mapped_column()}
    elif style == "annotation only":
        namespace["__annotations__"] = {name: Mapped[str]}
    elif style == "mixin":
        bases = (type("Mixin", (), {name: Column(String)}), db.Base)
    with pytest.raises(ReservedNameError, match=f"{name}_ = ") as caught:
        type(db.Base)("Bad", bases, namespace)
    assert isinstance(caught.value, TypeError)


def test_a_column_of_a_table_may_be_mapped_to_another_name(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class Form(db.Base):
        __table__ = sa.Table("form", db.metadata, Column("id", Integer, primary_key=True), Column("query", String))
        query_ = __table__.c.query

    db.create_all()
    with db():
        assert Form.new(query_="a").query.one().query_ == "a"


def test_a_helper_may_be_overridden_and_a_column_may_keep_its_name_in_the_database(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)

    class User(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        session_: Mapped[str] = mapped_column("session")

        def save(self) -> Any:
            self.session_ = self.session_.upper()
            return super().save()

    db.create_all()
    with db():
        assert User.new(session_="a").session_ == "A"
        assert User.new(session_="b").update(session_="c").session_ == "C"


# From outside.


@pytest.fixture
def family(sqlite_url: str) -> tuple[SQLAlchemy, Any, Any]:
    db = SQLAlchemy(sqlite_url)

    class Parent(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        big: Mapped[str | None] = mapped_column(deferred=True)
        children: Mapped[list[Child]] = relationship(back_populates="parent")

    class Child(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(sa.ForeignKey("parent.id"))
        parent: Mapped[Parent] = relationship(back_populates="children")

    globals().update(Parent=Parent, Child=Child)
    Parent.child_count = column_property(  # type: ignore[attr-defined]
        sa.select(sa.func.count(Child.id)).where(Child.parent_id == Parent.id).scalar_subquery()
    )
    db.create_all()
    with db():
        Parent.new(name="a", big="x", children=[Child(), Child()])
    return db, Parent, Child


def test_vars_hold_no_session_and_no_query(family: Any) -> None:
    db, Parent, _ = family
    with db():
        parent = Parent.get(1)
        assert set(vars(parent)) == {"_sa_instance_state", "id", "name", "child_count"}
        assert parent.session is db.session
        assert parent.query.one() is parent
        assert set(vars(parent)) == {"_sa_instance_state", "id", "name", "child_count"}
        for name in ("query", "session"):
            with pytest.raises(AttributeError):
                setattr(parent, name, None)


def test_encoding_gives_the_columns_and_nothing_else(family: Any) -> None:
    db, Parent, _ = family
    with db():
        parent = Parent.get(1)
        expected = {"id": 1, "name": "a", "child_count": 2}
        assert jsonable_encoder(parent) == dict(parent) == expected
        assert len(parent.children) == 2
        assert jsonable_encoder(parent) == expected
        assert jsonable_encoder({"parents": [parent]}) == {"parents": [expected]}
        assert parent.big == "x"
        assert jsonable_encoder(parent) == {**expected, "big": "x"}
    assert jsonable_encoder(parent)["name"] == "a"


def test_a_new_object_encodes_what_it_has(family: Any) -> None:
    _, Parent, _ = family
    assert {name: value for name, value in Parent(name="b") if value is not None} == {"name": "b"}


def test_routes_may_return_models(family: Any) -> None:
    db, Parent, _ = family
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    class Out(BaseModel):
        model_config = ConfigDict(from_attributes=True)
        name: str
        children: list[Any]

    @app.get("/all")
    def everything() -> Any:
        return Parent.query.all()

    @app.get("/plain")
    def plain():  # type: ignore[no-untyped-def]
        return Parent.get(1)

    @app.get("/nested")
    def nested() -> dict[str, Any]:
        return {"parent": Parent.get(1)}

    @app.get("/model", response_model=Out, response_model_exclude={"children"})
    def model() -> Any:
        return Parent.get(1)

    expected = {"id": 1, "name": "a", "child_count": 2}
    with TestClient(app) as client:
        assert client.get("/all").json() == [expected]
        assert client.get("/plain").json() == expected
        assert client.get("/nested").json() == {"parent": expected}
        assert client.get("/model").json() == {"name": "a"}


def test_a_model_reads_well_and_its_repr_loads_nothing(family: Any) -> None:
    db, Parent, _ = family
    assert repr(Parent(name="b")) == "<Parent transient>"
    with db():
        parent = Parent.get(1)
    assert repr(parent) == "<Parent 1>"
    assert bool(parent)
