"""A database of the tests' own, brought up by the migrations; what a test changes is rolled back."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from fastapi_sqlalchemy.migrations import Migrations

from app.database import db
from app.main import app

ALEMBIC = Path(__file__).parents[1] / "alembic.ini"


@pytest.fixture(scope="session")
def migrations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrations]:
    """The migrations, applied to the database that TEST_DATABASE_URL names, else to a SQLite file."""
    file = tmp_path_factory.mktemp("database") / "test.db"
    db.init(os.environ.get("TEST_DATABASE_URL") or f"sqlite:///{file}")
    migrations = Migrations(ALEMBIC)
    migrations.upgrade()
    yield migrations
    db.dispose()


@pytest.fixture
def client(migrations: Migrations) -> Iterator[TestClient]:
    """A client of the running application; nothing that it commits outlives the test."""
    with TestClient(app) as client, db.isolated():
        yield client
