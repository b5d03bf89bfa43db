"""Generated table names and the naming convention of constraints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Engine,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    func,
    inspect,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.declarative import AbstractConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from fastapi_sqlalchemy.models.naming import NAMING_CONVENTION, needs_table_name, table_name

child_key = Annotated[int, mapped_column(ForeignKey("person.id"), primary_key=True)]


class Named:
    """What the model base does: ask, then set the name, before SQLAlchemy maps the class."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if needs_table_name(cls):
            setattr(cls, "__tablename__", table_name(cls.__name__))  # noqa: B010
        super().__init_subclass__(**kwargs)


class Base(Named, DeclarativeBase):
    __abstract__ = True


@pytest.fixture
def base() -> type[DeclarativeBase]:
    class Fresh(Named, DeclarativeBase):
        metadata = MetaData(naming_convention=NAMING_CONVENTION)

    return Fresh


@pytest.mark.parametrize(
    ("cls_name", "expected"),
    [
        ("User", "user"),
        ("UserAccount", "user_account"),
        ("HTTPServer", "http_server"),
        ("UserHTTPLog", "user_http_log"),
        ("OAuth2Token", "oauth2_token"),
        ("MyOAuthToken", "my_oauth_token"),
        ("IPv4Address", "ipv4_address"),
        ("S3Bucket", "s3_bucket"),
        ("User2", "user2"),
        ("URL", "url"),
        ("A", "a"),
        ("ATeam", "a_team"),
        ("user", "user"),
        ("user_account", "user_account"),
        ("User_Account", "user_account"),
        ("_Private", "_private"),
        ("GrößeÜber", "größe_über"),
        ("Addresses", "addresses"),
    ],
)
def test_a_table_name_is_the_class_name_in_snake_case_and_never_pluralised(cls_name: str, expected: str) -> None:
    assert table_name(cls_name) == expected


def test_a_model_without_a_name_gets_one(base: Any) -> None:
    class UserAccount(base):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert UserAccount.__table__.name == "user_account"


def test_an_explicit_name_wins(base: Any) -> None:
    class UserAccount(base):
        __tablename__ = "accounts"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert UserAccount.__table__.name == "accounts"


def test_an_explicit_table_wins(base: Any) -> None:
    table = Table("accounts", base.metadata, Column("id", Integer, primary_key=True))

    class UserAccount(base):
        __table__ = table

    assert UserAccount.__table__ is table


def test_a_name_from_a_declared_attr_of_a_mixin_wins(base: Any) -> None:
    class Prefixed:
        @declared_attr.directive
        def __tablename__(cls) -> str:
            return "app_" + cls.__name__.lower()  # type: ignore[attr-defined]

    class UserAccount(Prefixed, base):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert UserAccount.__table__.name == "app_useraccount"


def test_a_name_from_a_declared_attr_of_the_base_wins() -> None:
    class LowerBase(Named, DeclarativeBase):
        @declared_attr.directive
        def __tablename__(cls) -> str:
            return cls.__name__.lower()

    class UserAccount(LowerBase):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert UserAccount.__table__.name == "useraccount"


def test_abstract_classes_mixins_and_the_base_are_untouched(base: Any) -> None:
    class Mixin(Named):
        created: Mapped[int]

    class Common(base):
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)

    class Thing(Mixin, Common):
        pass

    assert not hasattr(base, "__tablename__")
    assert not hasattr(Mixin, "__tablename__")
    assert not hasattr(Common, "__tablename__")
    assert Thing.__table__.name == "thing"


def test_a_child_without_a_key_shares_its_parents_table(base: Any) -> None:
    class Person(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Worker(Person):
        wage: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "worker"}

    class Chief(Worker):
        __mapper_args__ = {"polymorphic_identity": "chief"}

    assert Person.__table__ is Worker.__table__ is Chief.__table__
    assert Person.__table__.name == "person"


def test_a_child_with_a_key_column_gets_a_table(base: Any) -> None:
    class Person(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class SkilledWorker(Person):
        id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "worker"}

    class Guard(Person):
        guard_id = Column(ForeignKey("person.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "guard"}

    assert SkilledWorker.__table__.name == "skilled_worker"
    assert Guard.__table__.name == "guard"


def test_a_child_key_is_found_in_an_annotated_type_a_mixin_and_the_table_arguments(base: Any) -> None:
    class Person(base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class ByAnnotation(Person):
        id: Mapped[child_key]
        tasks: Mapped[list[Task]] = relationship()

    class Task(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int] = mapped_column(ForeignKey("by_annotation.id"))

    class PersonKey:
        @declared_attr
        def id(cls) -> Mapped[int]:
            return mapped_column(ForeignKey("person.id"), primary_key=True)

    class ByMixin(PersonKey, Person):
        pass

    class ByConstraint(Person):
        person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
        __table_args__ = (PrimaryKeyConstraint("person_id"),)

    names = [model.__table__.name for model in (ByAnnotation, ByMixin, ByConstraint)]
    assert names == ["by_annotation", "by_mixin", "by_constraint"]


def test_a_single_table_child_may_add_mixin_columns(base: Any) -> None:
    class Labelled:
        @declared_attr
        def label(cls) -> Mapped[str | None]:
            return mapped_column(String(20))

    class Person(base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Worker(Labelled, Person):
        pass

    assert Worker.__table__ is Person.__table__


def test_concrete_children_get_a_table_and_their_abstract_base_none(base: Any) -> None:
    class Person(base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Robot(Person):
        id: Mapped[int] = mapped_column(primary_key=True)
        __mapper_args__ = {"concrete": True}

    class Vehicle(AbstractConcreteBase, base):
        pass

    class RaceCar(Vehicle):
        id: Mapped[int] = mapped_column(primary_key=True)
        __mapper_args__ = {"concrete": True}

    assert Robot.__table__.name == "robot"
    assert "__tablename__" not in vars(Vehicle)
    assert RaceCar.__table__.name == "race_car"


def build_tables(metadata: MetaData) -> Table:
    Table("owner", metadata, Column("id", Integer, primary_key=True), Column("tag", Integer, unique=True))
    item = Table(
        "item",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("owner_id", ForeignKey("owner.id"), index=True),
        Column("a", Integer, unique=True),
        Column("b", Integer),
        Column("flag", Boolean(create_constraint=True)),
        Column("colour", Enum("red", "blue", native_enum=False, create_constraint=True)),
        UniqueConstraint("a", "b"),
        CheckConstraint("a > 0"),
        CheckConstraint("a > 1"),
        CheckConstraint("b > 0", name="b_positive"),
        CheckConstraint("b > 1", name="ck_item_b_more"),
        Index(None, "a", "b"),
    )
    Index(None, func.abs(item.c.b))
    return item


def constraint_names(metadata: MetaData) -> list[str]:
    ddl = [str(CreateTable(table).compile(dialect=sqlite.dialect())) for table in metadata.sorted_tables]
    indexes = [str(index.name) for table in metadata.tables.values() for index in table.indexes]
    return sorted(re.findall(r"CONSTRAINT (\w+)", " ".join(ddl)) + indexes)


def test_every_constraint_has_a_name_of_its_own_and_the_same_on_every_run() -> None:
    first, second = MetaData(naming_convention=NAMING_CONVENTION), MetaData(naming_convention=NAMING_CONVENTION)
    build_tables(first)
    build_tables(second)
    names = constraint_names(first)

    assert names == constraint_names(second)
    assert len(names) == len(set(names))
    assert {"pk_item", "pk_owner", "uq_item_a", "uq_item_a_b", "uq_owner_tag"} <= set(names)
    assert {"fk_item_owner_id_owner", "ix_item_owner_id", "ix_item_a_b", "ix_item_b"} <= set(names)
    assert {"ck_item_b_positive", "ck_item_b_more"} <= set(names)
    assert len([name for name in names if re.fullmatch(r"ck_item_[0-9a-f]{8}", name)]) == 4


def test_the_database_knows_the_constraints_by_their_names() -> None:
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    item = build_tables(metadata)
    item.indexes.clear()
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    inspector = inspect(engine)

    assert inspector.get_pk_constraint("item")["name"] == "pk_item"
    assert {unique["name"] for unique in inspector.get_unique_constraints("item")} == {"uq_item_a", "uq_item_a_b"}
    assert [key["name"] for key in inspector.get_foreign_keys("item")] == ["fk_item_owner_id_owner"]
    engine.dispose()


def test_a_foreign_key_over_two_columns_names_both() -> None:
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    Table("pair", metadata, Column("x", Integer, primary_key=True), Column("y", Integer, primary_key=True))
    link = Table(
        "link",
        metadata,
        Column("x", Integer, primary_key=True),
        Column("y", Integer),
        ForeignKeyConstraint(["x", "y"], ["pair.x", "pair.y"]),
    )
    assert [constraint.name for constraint in link.foreign_key_constraints] == ["fk_link_x_y_pair"]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine for an empty database."""
    engine = create_engine(database_url.replace("mysql:", "mysql+pymysql:"), poolclass=NullPool)
    yield engine
    engine.dispose()


def test_autogenerate_finds_no_difference_after_the_tables_were_made(engine: Engine) -> None:
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    item = build_tables(metadata)
    item.indexes = {index for index in item.indexes if index.name != "ix_item_b"}  # MariaDB has no functional index
    metadata.create_all(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_batch_on_sqlite_drops_a_constraint_by_its_generated_name(tmp_path: Path) -> None:
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    build_tables(metadata).indexes.clear()
    engine = create_engine(f"sqlite:///{tmp_path}/batch.db")
    metadata.create_all(engine)
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection, opts={"target_metadata": metadata}))
        with operations.batch_alter_table("item", naming_convention=NAMING_CONVENTION) as batch:
            batch.drop_constraint("uq_item_a_b", type_="unique")
            batch.drop_constraint("fk_item_owner_id_owner", type_="foreignkey")
    inspector = inspect(engine)
    assert [unique["name"] for unique in inspector.get_unique_constraints("item")] == ["uq_item_a"]
    assert inspector.get_foreign_keys("item") == []
    engine.dispose()


def test_a_name_that_is_too_long_is_cut_alike_on_every_run(engine: Engine) -> None:
    def build() -> tuple[MetaData, str]:
        metadata = MetaData(naming_convention=NAMING_CONVENTION)
        columns = [Column(f"a_rather_long_column_name_{number}", Integer) for number in range(4)]
        key = Column("id", Integer, primary_key=True)
        table = Table("long", metadata, key, *columns, UniqueConstraint(*(column.name for column in columns)))
        return metadata, str(CreateTable(table).compile(engine))

    (metadata, first), (_, second) = build(), build()
    assert first == second
    metadata.create_all(engine)
    (unique,) = inspect(engine).get_unique_constraints("long")
    assert str(unique["name"]).startswith("uq_long_a_rather_long")
