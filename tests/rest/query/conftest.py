"""One set of tables on SQLite, PostgreSQL and MariaDB, and a way to ask all three the same question."""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastapi_sqlalchemy.rest.query import ListQuery, Ordering, Plans, QuerySettings, compile_filters, parse_query
from fastapi_sqlalchemy.rest.resource import Resource, ResourceRegistry, resource_for
from tests.support.databases import note_part, server_url, temporary_database

DRIVERS = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}
Params = Sequence[tuple[str, str]]


class Color(enum.Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Base(DeclarativeBase):
    pass


link = sa.Table(
    "link",
    Base.metadata,
    sa.Column("pet_id", sa.ForeignKey("pet.id"), primary_key=True),
    sa.Column("tag_id", sa.ForeignKey("tag.id"), primary_key=True),
)


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str | None] = mapped_column(sa.String(40))
    age: Mapped[int | None] = mapped_column(index=True)
    city: Mapped[str] = mapped_column(sa.String(20), index=True)
    limit: Mapped[int | None]
    boss_id: Mapped[int | None] = mapped_column(sa.ForeignKey("person.id"))
    password: Mapped[str | None] = mapped_column(sa.String(20))
    pets: Mapped[list[Pet]] = relationship(back_populates="owner")
    boss: Mapped[Person | None] = relationship(remote_side="Person.id")


class Pet(Base):
    __tablename__ = "pet"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(sa.String(40))
    weight: Mapped[int | None]
    owner_id: Mapped[int | None] = mapped_column(sa.ForeignKey("person.id"))
    api_key: Mapped[str | None] = mapped_column(sa.String(20))
    owner: Mapped[Person | None] = relationship(back_populates="pets")
    tags: Mapped[list[Tag]] = relationship(secondary=link, back_populates="pets")


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(sa.String(20))
    pets: Mapped[list[Pet]] = relationship(secondary=link, back_populates="tags")


thing = sa.Table(
    "thing",
    Base.metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("text", sa.String(40)),
    sa.Column("note", sa.Text),
    sa.Column("small", sa.SmallInteger),
    sa.Column("big", sa.BigInteger),
    sa.Column("ratio", sa.Double),
    sa.Column("single", sa.Float),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("flag", sa.Boolean),
    sa.Column("day", sa.Date),
    sa.Column("clock", sa.Time().with_variant(sa.dialects.mysql.TIME(fsp=6), "mysql", "mariadb")),
    sa.Column("at", sa.DateTime().with_variant(sa.dialects.mysql.DATETIME(fsp=6), "mysql", "mariadb")),
    sa.Column("instant", sa.DateTime(timezone=True)),
    sa.Column("span", sa.Interval),
    sa.Column("uid", sa.Uuid),
    sa.Column("color", sa.Enum(Color)),
    sa.Column("size", sa.Enum("s", "m", "l", name="thing_size")),
    sa.Column("data", sa.LargeBinary(32)),
    sa.Column("extra", sa.JSON),
    sa.Column("secret_word", sa.String(20)),
)
pair = sa.Table(
    "pair",
    Base.metadata,
    sa.Column("left", sa.String(20), primary_key=True),
    sa.Column("right", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("a", sa.Integer, nullable=False),
    sa.Column("b", sa.Integer),
)
odd = sa.Table(
    "odd names",
    Base.metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("limit", sa.Integer),
    sa.Column("q", sa.String(20)),
    sa.Column("and", sa.Integer),
    sa.Column("age", sa.Integer),
    sa.Column("age__gt", sa.Integer),
    sa.Column("a.b", sa.Integer),
    sa.Column("with, comma", sa.Integer),
    sa.Column("-minus", sa.Integer),
    sa.Column("größe", sa.Integer),
)


class Bench:
    """The three databases and the resources on them."""

    def __init__(self, engines: dict[str, sa.Engine]) -> None:
        self.engines = engines
        self.registry = ResourceRegistry()
        self._plans: dict[Resource, Plans] = {}
        self.models: dict[str, Any] = {"Person": Person, "Pet": Pet, "Tag": Tag}
        self.tables: dict[str, sa.Table] = dict(Base.metadata.tables)

    def resource(self, entity: Any) -> Resource:
        """The resource of a model or of a table, by name."""
        if isinstance(entity, str):
            entity = self.models[entity] if entity in self.models else self.tables[entity]
        return resource_for(entity, registry=self.registry)

    def plans(self, resource: Resource) -> Plans:
        """The plans of a resource, kept for the whole run."""
        return self._plans.setdefault(resource, Plans(resource))

    def engine(self, database: str) -> sa.Engine:
        """The engine of a database; without a server for it the test is skipped."""
        if database not in self.engines:
            pytest.skip(f"no {database} server takes part")
        return self.engines[database]

    def empty(self) -> None:
        for engine in self.engines.values():
            with engine.begin() as connection:
                if engine.dialect.name != "sqlite":
                    connection.execute(sa.update(self.tables["person"]).values(boss_id=None))
                for table in reversed(Base.metadata.sorted_tables):
                    connection.execute(table.delete())

    def insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        for engine in self.engines.values():
            with engine.begin() as connection:
                if rows:
                    connection.execute(sa.insert(self.tables[table]), list(rows))

    def select(self, database: str, query: ListQuery, resource: Resource, visible: Any = None) -> list[tuple[Any, ...]]:
        """The keys that one database finds, in the order asked for; by a plan where all callers see the same."""
        engine = self.engine(database)
        if visible is None:
            planned = self.plans(resource).page(
                replace(query, limit=100_000),
                engine.dialect,
                "keys",
                lambda _ordering: sa.select(*(field.column for field in resource.key)).select_from(resource.table),
            )
            with engine.connect() as connection:
                return planned.rows(lambda *asked: [tuple(row) for row in connection.execute(*asked)])
        ordering = Ordering(resource, query.sort, engine.dialect)
        statement = (
            sa.select(*(field.column for field in resource.key))
            .select_from(resource.table)
            .where(*compile_filters(query, resource, engine.dialect, visible))
            .order_by(*ordering.order_by())
        )
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def find(self, entity: Any, *params: tuple[str, str], **options: Any) -> list[Any]:
        """What all three databases find, which is one and the same."""
        resource = self.resource(entity)
        query = parse_query(resource, params, QuerySettings(), **options)
        rows = self.select("sqlite", query, resource)
        for database in self.engines:
            assert self.select(database, query, resource) == rows, database
        return [row[0] for row in rows] if len(resource.key) == 1 else rows


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The tables on SQLite and on the servers that take part."""
    path: Path = tmp_path_factory.mktemp("query")
    note_part("sqlite", f"SQLite {sqlite3.sqlite_version}")
    with ExitStack() as stack:
        engines = {"sqlite": sa.create_engine(f"sqlite:///{path}/query.db")}
        for name, driver in DRIVERS.items():
            if server_url(name) is not None:
                url = sa.make_url(stack.enter_context(temporary_database(name)))
                engines[name] = sa.create_engine(url.set(drivername=driver))
        for engine in engines.values():
            Base.metadata.create_all(engine)
        yield Bench(engines)
        for engine in engines.values():
            engine.dispose()
