"""Code written for the older library: the same names and calls, without the old faults."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from sqlalchemy import Column, Integer, String
from starlette.middleware.base import BaseHTTPMiddleware

import fastapi_sqlalchemy.middleware
from fastapi_sqlalchemy import DBSessionMiddleware, ModelBase, SQLAlchemy, db
from fastapi_sqlalchemy.exceptions import MissingSessionError, SessionNotInitialisedError
from tests.support.client import TestClient


class OlderItem(ModelBase, db.Base):
    __tablename__ = "older_api_items"

    id = Column(Integer, primary_key=True)
    name = Column(String(50), unique=True)


@pytest.fixture(autouse=True)
def applications_are_gone() -> Iterator[None]:
    yield
    gc.collect()


def test_the_modules_and_names_are_where_they_were() -> None:
    assert fastapi_sqlalchemy.middleware.db is db
    assert fastapi_sqlalchemy.middleware.DBSessionMiddleware is DBSessionMiddleware
    assert isinstance(db, SQLAlchemy)


def _items(app: FastAPI) -> FastAPI:
    @app.post("/{name}")
    def create(name: str) -> int:
        item = OlderItem(name=name)
        db.session.add(item)
        db.session.commit()
        return int(item.id)

    @app.get("/")
    def read() -> Any:
        return db.session.query(OlderItem).all()

    return app


@pytest.mark.parametrize("how", ["db_url", "positional", "custom_engine"])
def test_the_session_of_the_request_is_behind_the_module_level_db(sqlite_url: str, how: str) -> None:
    app = _items(FastAPI())
    engine = sa.create_engine(sqlite_url)
    if how == "db_url":
        app.add_middleware(DBSessionMiddleware, db_url=sqlite_url)
    elif how == "positional":
        app.add_middleware(DBSessionMiddleware, sqlite_url)
    else:
        app.add_middleware(DBSessionMiddleware, custom_engine=engine)
    with TestClient(app) as client:
        assert client.post("/a").json() == 1
        assert client.get("/").json() == [{"id": 1, "name": "a"}]
    engine.dispose()


def test_session_and_engine_arguments_are_taken(sqlite_url: str) -> None:
    app = FastAPI()
    app.add_middleware(
        DBSessionMiddleware,
        db_url=sqlite_url,
        engine_args={"echo": False, "pool_pre_ping": True},
        session_args={"expire_on_commit": True, "autoflush": False},
        commit_on_exit=False,
    )

    @app.get("/")
    def endpoint() -> list[bool]:
        return [db.session.expire_on_commit, db.session.autoflush]

    with TestClient(app) as client:
        assert client.get("/").json() == [True, False]


def test_the_middleware_may_be_made_by_hand() -> None:
    app = FastAPI()
    middleware = DBSessionMiddleware(app, db_url="sqlite://")
    assert isinstance(middleware, BaseHTTPMiddleware)
    with pytest.raises(ValueError, match=r"^You need to pass a db_url or a custom_engine parameter\.$"):
        DBSessionMiddleware(app)


def test_outside_of_a_request_db_is_a_context_manager(sqlite_url: str) -> None:
    app = _items(FastAPI())
    app.add_middleware(DBSessionMiddleware, db_url=sqlite_url)
    with TestClient(app) as client:
        with db():
            db.session.add(OlderItem(name="task"))
            db.session.commit()
        with db(commit_on_exit=True):
            db.session.add(OlderItem(name="committed by the end"))
        with db(session_args={"autoflush": False}):
            assert db.session.autoflush is False
            OlderItem(name="helper").save()
        assert len(client.get("/").json()) == 3


def test_outside_of_a_context_the_session_is_missing(sqlite_url: str) -> None:
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db_url=sqlite_url)
    with TestClient(app), pytest.raises(MissingSessionError):
        _ = db.session


def test_before_anything_gave_it_a_url_the_database_is_not_initialised() -> None:
    fresh = SQLAlchemy()
    with pytest.raises(SessionNotInitialisedError):
        _ = fresh.session
    with pytest.raises(MissingSessionError), fresh():
        pass


def test_init_app_style_set_up_and_options_without_effect(sqlite_url: str) -> None:
    one = SQLAlchemy(url=sqlite_url, verbose=1, async_=False)
    two = SQLAlchemy()
    two.init(url=sqlite_url, verbose=3)
    assert one.url == two.url


def test_the_old_faults_are_gone(sqlite_url: str) -> None:
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db_url=sqlite_url, commit_on_exit=True)

    @app.post("/http-exception")
    def refused() -> None:
        db.session.add(OlderItem(name="refused"))
        db.session.flush()
        raise HTTPException(409)

    @app.post("/twice")
    def twice() -> dict[str, bool]:
        db.session.add_all([OlderItem(name="a"), OlderItem(name="a")])
        return {"stored": True}

    @app.get("/")
    def read() -> int:
        return OlderItem.query.count()

    with TestClient(app) as client:
        assert client.post("/http-exception").status_code == 409
        assert client.post("/twice").status_code == 409
        assert client.get("/").json() == 0
        with pytest.raises(Exception, match="confirmed=True"):
            db.drop_all()
        assert client.get("/").json() == 0
