"""What type checkers see of the helpers for tests."""

from __future__ import annotations

from typing import assert_type

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.testing import assert_queries, forbid_nplusone
from fastapi_sqlalchemy.testing.factories import ModelFactory

from .models import User, db


class UserFactory(ModelFactory[User]):
    name = "Ada"


def overridden() -> None:
    with db.override("sqlite://", commit_on_exit=True) as same:
        assert_type(same, SQLAlchemy)
    with db.isolated() as isolated:
        assert_type(isolated, SQLAlchemy)


async def overridden_async() -> None:
    async with db.override("sqlite://") as same:
        assert_type(same, SQLAlchemy)


def counted() -> None:
    with assert_queries(1) as exactly:
        assert_type(exactly, assert_queries)
    with assert_queries(at_most=3, everywhere=True) as queries:
        assert_type(queries.count, int)
    with forbid_nplusone(threshold=3) as guard:
        assert_type(guard, forbid_nplusone)


def made() -> None:
    assert_type(UserFactory.build(), User)
    assert_type(UserFactory.create_sync(name="x"), User)
    assert_type(UserFactory.create_batch_sync(2), list[User])


async def made_async() -> None:
    assert_type(await UserFactory.create_async(), User)
    assert_type(await UserFactory.create_batch_async(2), list[User])
