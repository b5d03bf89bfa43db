"""The mixins, on each database, by the helpers of a model and by plain sessions, sync and async."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import NullPool

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.models.mixins import SoftDeleteMixin, TimestampMixin, UUIDKeyMixin, VersionMixin, uuid7
from fastapi_sqlalchemy.sessions import are_sessions_observed
from tests.support.databases import server_url, temporary_database

INCLUDE = {"include_deleted": True}


class Base(DeclarativeBase):
    pass


class User(SoftDeleteMixin, TimestampMixin, VersionMixin, UUIDKeyMixin, Base):
    __tablename__ = "user"
    name: Mapped[str] = mapped_column(sa.String(20))
    posts: Mapped[list[Post]] = relationship(back_populates="author", order_by="Post.number")


class Post(SoftDeleteMixin, UUIDKeyMixin, Base):
    __tablename__ = "post"
    number: Mapped[int]
    author_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("user.id"))
    author: Mapped[User] = relationship(back_populates="posts")


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """The URL of a database in which each test leaves no table."""
    if request.param == "sqlite":
        yield sa.make_url(f"sqlite:///{tmp_path_factory.mktemp('mixins') / 'test.db'}")
        return
    if server_url(request.param) is None:
        pytest.skip(f"NO {request.param.upper()} SERVER TAKES PART")
    with temporary_database(request.param) as url:
        yield sa.make_url(url)


@pytest.fixture
def engine(url: sa.URL) -> Iterator[sa.Engine]:
    drivers = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    engine = sa.create_engine(url.set(drivername=drivers[url.get_backend_name()]), poolclass=NullPool)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    """Ann with posts 1 and 2, of which 1 is deleted; Bob, deleted, with post 3."""
    with Session(engine) as session:
        ann = User(name="Ann", posts=[Post(number=1), Post(number=2)])
        bob = User(name="Bob", posts=[Post(number=3)])
        session.add_all([ann, bob])
        session.commit()
        ann.posts[0].delete()
        bob.delete()
        session.commit()
        session.expunge_all()
        yield session


def names(session: Session, **options: Any) -> list[str]:
    return list(session.scalars(select(User.name).order_by(User.name).execution_options(**options)))


def bob_key(session: Session) -> uuid.UUID:
    return session.scalars(select(User.id).where(User.name == "Bob").execution_options(**INCLUDE)).one()


def test_a_deleted_row_is_left_out_of_every_select(session: Session) -> None:
    bob = bob_key(session)
    user = aliased(User)
    assert [row.name for row in session.scalars(select(User))] == ["Ann"]
    assert [row.name for row in session.scalars(select(user))] == ["Ann"]
    assert session.execute(select(User.name)).all() == [("Ann",)]
    assert session.scalar(select(func.count()).select_from(User)) == 1
    assert session.scalar(select(sa.exists().where(User.id == bob))) in (False, 0)
    assert session.execute(select(select(User.name).subquery().c.name)).all() == [("Ann",)]
    assert session.execute(select(select(User.name).cte().c.name)).all() == [("Ann",)]
    assert session.execute(sa.union_all(select(User.name), select(User.name))).all() == [("Ann",), ("Ann",)]
    assert session.scalars(select(Post.number).where(Post.author_id.in_(select(User.id)))).all() == [2]
    assert session.execute(select(Post.number, User.name).join(Post.author)).all() == [(2, "Ann")]
    assert session.scalars(select(User).where(User.posts.any(Post.number == 1))).all() == []


def test_a_deleted_row_is_left_out_of_queries_and_get(session: Session) -> None:
    bob = bob_key(session)
    assert [row.name for row in session.query(User)] == ["Ann"]
    assert session.query(User).count() == 1
    assert session.query(User).filter_by(name="Bob").first() is None
    assert session.get(User, bob) is None
    assert session.get(User, bob, execution_options=INCLUDE) is not None


@pytest.mark.parametrize("load", [None, selectinload, joinedload, subqueryload])
def test_a_deleted_row_is_left_out_of_relationships(session: Session, load: Any) -> None:
    statement = select(User) if load is None else select(User).options(load(User.posts))
    assert [[post.number for post in user.posts] for user in session.scalars(statement).unique()] == [[2]]


def test_a_relationship_to_a_deleted_row_is_none(session: Session) -> None:
    post = session.scalars(select(Post).where(Post.number == 3)).one()
    assert post.author is None


def test_a_relationship_of_an_object_just_made_leaves_deleted_rows_out(session: Session) -> None:
    carl = User(name="Carl", posts=[Post(number=7), Post(number=8)])
    session.add(carl)
    session.commit()
    carl.posts[0].delete()
    session.commit()
    assert [post.number for post in carl.posts] == [8]


def test_deleted_rows_come_back_when_asked_for(session: Session) -> None:
    bind = session.get_bind()
    assert names(session) == ["Ann"]
    assert names(session, **INCLUDE) == ["Ann", "Bob"]
    assert session.query(User).execution_options(**INCLUDE).count() == 2
    statement = select(User).options(selectinload(User.posts)).order_by(User.name).execution_options(**INCLUDE)
    assert [[post.number for post in user.posts] for user in session.scalars(statement)] == [[1, 2], [3]]
    with Session(bind, execution_options=INCLUDE) as other:
        assert names(other) == ["Ann", "Bob"]


def test_the_table_itself_and_bulk_statements_see_every_row(session: Session) -> None:
    assert len(session.execute(select(User.__table__)).all()) == 2
    assert session.execute(sa.update(User).values(name="X")).rowcount == 2  # type: ignore[attr-defined]


def test_a_deleted_object_can_be_refreshed_restored_and_removed(session: Session) -> None:
    bob = session.get(User, bob_key(session), execution_options=INCLUDE)
    assert bob is not None
    assert bob.is_deleted
    session.expire(bob)
    assert bob.deleted_at is not None
    session.refresh(bob)
    assert bob.restore() is bob
    session.commit()
    assert names(session) == ["Ann", "Bob"]
    for post in bob.posts:
        post.hard_delete()
    bob.hard_delete()
    session.commit()
    assert names(session, **INCLUDE) == ["Ann"]


def test_what_has_no_row_cannot_be_deleted(session: Session) -> None:
    with pytest.raises(sa.exc.InvalidRequestError, match="save it first"):
        User(name="Dan").delete()
    with pytest.raises(sa.exc.InvalidRequestError, match="in no session"):
        User(name="Dan").hard_delete()


def test_deleting_twice_keeps_the_first_time(session: Session) -> None:
    ann = session.scalars(select(User)).one()
    ann.delete()
    first = ann.deleted_at
    ann.delete()
    assert ann.deleted_at == first


def test_the_declarative_base_must_not_come_first() -> None:
    db = SQLAlchemy("sqlite://")
    with pytest.raises(TypeError, match="SoftDeleteMixin before the declarative base"):

        class Wrong(db.Base, SoftDeleteMixin):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)


def model_of(db: SQLAlchemy) -> Any:
    class Account(SoftDeleteMixin, TimestampMixin, VersionMixin, UUIDKeyMixin, db.Base):  # type: ignore[misc, name-defined]
        name: Mapped[str] = mapped_column(sa.String(20))

    return Account


@pytest.mark.parametrize("expire_on_commit", [False, True])
def test_the_helpers_of_a_model_delete_softly_and_store_at_once(url: sa.URL, expire_on_commit: bool) -> None:
    db = SQLAlchemy(url, expire_on_commit=expire_on_commit)
    account = model_of(db)
    db.create_all()
    try:
        with db():
            ann, bob = account.new(name="Ann"), account.new(name="Bob")
            key = bob.id
            assert bob.delete() is None
            assert account.get(key) is None
            assert [row.name for row in account.get_all()] == ["Ann"]
            assert account.query.count() == 1
            assert isinstance(bob.deleted_at, dt.datetime)
        with db():
            assert account.get(key) is None
            assert db.session.get(account, key, execution_options=INCLUDE).restore().name == "Bob"
        with db():
            assert account.get(key).name == "Bob"
            account.get(key).hard_delete()
            assert db.session.get(account, key, execution_options=INCLUDE) is None
            assert account.get(ann.id) is not None
    finally:
        db.drop_all(confirmed=True)
        db.dispose()


def test_the_async_helpers_do_the_same(url: sa.URL) -> None:
    async def work() -> None:
        db = SQLAlchemy(url)
        account = model_of(db)
        await db.acreate_all()
        try:
            async with db():
                bob = await account.anew(name="Bob")
                key, made = bob.id, bob.updated_at
                await bob.aupdate(name="Bobby")
                assert bob.updated_at > made
                assert bob.version == 2
                await bob.adelete()
                assert await account.aget(key) is None
            async with db():
                bob = await db.async_session.get(account, key, execution_options=INCLUDE)
                await bob.arestore()
                assert (await account.aget(key)).name == "Bobby"
                await bob.ahard_delete()
                assert await db.async_session.get(account, key, execution_options=INCLUDE) is None
        finally:
            await db.adrop_all(confirmed=True)
            await db.adispose()

    asyncio.run(work())


def test_a_soft_delete_that_is_rolled_back_did_not_happen(url: sa.URL) -> None:
    db = SQLAlchemy(url)
    account = model_of(db)
    db.create_all()
    try:
        with db():
            ann = account.new(name="Ann")
            with pytest.raises(RuntimeError), db.transaction():
                ann.delete()
                assert account.get(ann.id) is None
                raise RuntimeError
            assert account.get(ann.id).deleted_at is None
    finally:
        db.drop_all(confirmed=True)
        db.dispose()


def test_plain_async_sessions_know_the_mixins(url: sa.URL, engine: sa.Engine) -> None:
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "mysql": "mysql+asyncmy"}

    async def work() -> None:
        async_engine = create_async_engine(url.set(drivername=drivers[url.get_backend_name()]), poolclass=NullPool)
        async with AsyncSession(async_engine, expire_on_commit=False) as session:
            user = User(name="Eve")
            session.add(user)
            await session.commit()
            assert (user.version, user.created_at) == (1, user.updated_at)
            assert user.created_at.tzinfo is dt.UTC
            user.name = "Eva"
            await session.commit()
            assert user.version == 2
            assert user.updated_at > user.created_at
            user.delete()
            await session.commit()
            assert (await session.scalars(select(User))).all() == []
        await async_engine.dispose()

    asyncio.run(work())


def test_a_change_sets_updated_at_and_leaves_created_at(session: Session) -> None:
    ann = session.scalars(select(User)).one()
    made, changed = ann.created_at, ann.updated_at
    session.expunge_all()
    ann = session.scalars(select(User)).one()
    ann.name = "Anna"
    session.commit()
    assert ann.created_at == made
    assert changed < ann.updated_at <= dt.datetime.now(dt.UTC)
    session.execute(sa.update(User).where(User.id == ann.id).values(name="Anne"))
    session.commit()
    assert ann.updated_at > changed


def test_a_new_row_was_changed_when_it_was_made(session: Session) -> None:
    past = dt.datetime(2001, 2, 3, tzinfo=dt.UTC)
    session.add_all([User(name="Old", created_at=past), User(name="New")])
    session.commit()
    rows = session.scalars(select(User).where(User.name.in_(["Old", "New"])).order_by(User.name)).all()
    assert [row.created_at == row.updated_at for row in rows] == [True, True]
    assert rows[1].created_at == past


def test_bulk_inserts_and_raw_sql_get_timestamps_and_a_version(session: Session) -> None:
    session.execute(sa.insert(User), [{"name": "Bulk 1"}, {"name": "Bulk 2"}])
    quoted = session.get_bind().dialect.identifier_preparer.quote("user")
    statement = sa.text(f"INSERT INTO {quoted} (id, name) VALUES (:id, 'Raw')")
    session.execute(statement.bindparams(sa.bindparam("id", uuid7(), sa.Uuid())))
    session.commit()
    for row in session.scalars(select(User).where(User.name != "Ann")):
        assert row.created_at.tzinfo is dt.UTC
        assert abs(dt.datetime.now(dt.UTC) - row.updated_at) < dt.timedelta(minutes=1)
        assert row.version == 1


def test_a_write_over_a_newer_version_is_refused(session: Session, engine: sa.Engine) -> None:
    mine = session.scalars(select(User)).one()
    assert mine.version == 1
    with Session(engine) as other:
        session.rollback()
        theirs = other.scalars(select(User)).one()
        theirs.name = "Theirs"
        other.commit()
        assert theirs.version == 2
    sa.orm.attributes.set_committed_value(mine, "version", 1)
    mine.name = "Mine"
    with pytest.raises(StaleDataError):
        session.commit()
    session.rollback()
    assert names(session) == ["Theirs"]


def test_the_version_guard_survives_mapper_arguments_and_inheritance() -> None:
    class Local(DeclarativeBase):
        pass

    class Animal(VersionMixin, Local):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Whale(Animal):
        __tablename__ = "whale"
        id: Mapped[int] = mapped_column(sa.ForeignKey("animal.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "whale"}

    for model in (Animal, Dog, Whale):
        assert sa.inspect(model).version_id_col is Animal.__table__.c.version
    engine = sa.create_engine("sqlite://")
    Local.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Dog(), Whale()])
        session.commit()
        assert [animal.version for animal in session.scalars(select(Animal))] == [1, 1]
    engine.dispose()


def test_mapper_arguments_that_would_turn_the_guard_off_are_refused() -> None:
    class Local(DeclarativeBase):
        pass

    with pytest.raises(TypeError, match="VersionMixin before the declarative base"):

        class Animal(Local, VersionMixin):
            __tablename__ = "animal"
            id: Mapped[int] = mapped_column(primary_key=True)
            __mapper_args__ = {"eager_defaults": True}


def test_keys_sort_in_the_order_in_which_they_were_made() -> None:
    keys = [uuid7() for _ in range(2000)]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert {key.version for key in keys} == {7}
    assert {key.variant for key in keys} == {uuid.RFC_4122}
    made = dt.datetime.fromtimestamp((keys[0].int >> 80) / 1000, dt.UTC)
    assert abs(dt.datetime.now(dt.UTC) - made) < dt.timedelta(minutes=1)


def test_a_key_is_there_after_a_flush_and_native_where_there_is_one(session: Session) -> None:
    user = User(name="Fay")
    session.add(user)
    session.flush()
    assert isinstance(user.id, uuid.UUID)
    session.commit()
    assert session.get(User, user.id) is user
    columns = {column["name"]: column["type"] for column in sa.inspect(session.get_bind()).get_columns("user")}
    native = session.get_bind().dialect.name != "sqlite"
    assert isinstance(columns["id"], sa.UUID if native else sa.CHAR)


def test_an_application_without_soft_delete_pays_nothing() -> None:
    code = (
        "import sqlalchemy.orm, fastapi_sqlalchemy, fastapi_sqlalchemy.models.mixins\n"
        "print(bool(sqlalchemy.orm.Session().dispatch.do_orm_execute))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_model_that_is_deleted_softly_leaves_reads_their_short_way(memory_url: str) -> None:
    db = SQLAlchemy(memory_url)

    class Kept(SoftDeleteMixin, db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert not are_sessions_observed(writes=True)
    db.dispose()
