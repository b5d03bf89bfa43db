"""Slow statements are logged: one line each, with time, rows, line, database and request, and without a value."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.exceptions import ConfigurationError
from fastapi_sqlalchemy.observe.logging import JSONFormatter, RequestIdMiddleware
from fastapi_sqlalchemy.observe.slow import SlowQueries
from tests.support.client import TestClient

pytestmark = pytest.mark.anyio

CANARY = "canary-7391"
SLEEP = {"postgresql": "SELECT pg_sleep(0.06)", "mariadb": "SELECT SLEEP(0.06)"}
COUNT = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {0}) SELECT count(*) FROM c"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JSONFormatter())
    logger = logging.getLogger("tests.slow")
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, written
    logger.removeHandler(handler)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def slow(url: str) -> str:
    kind = "postgresql" if url.startswith("postgresql") else "mariadb" if url.startswith("mysql") else "sqlite"
    return SLEEP.get(kind, COUNT.format(400_000))


def test_a_slow_statement_is_one_line_with_its_time_rows_line_database_and_request(
    database_url: str, log: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, written = log
    db = SQLAlchemy(database_url)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    app.add_middleware(RequestIdMiddleware)

    @app.get("/report")
    def report() -> None:
        db.session.execute(sa.text("SELECT :name AS name"), {"name": CANARY}).all()
        db.session.execute(sa.text(slow(database_url))).all()

    slow_queries = SlowQueries(0.05, logger=logger)
    try:
        with TestClient(app) as client:
            client.get("/report", headers={"X-Request-ID": "request-1"})
    finally:
        slow_queries.close()
    (line,) = lines(written)
    assert (line["level"], line["rows"], line["request_id"]) == ("WARNING", 1, "request-1")
    assert line["seconds"] >= 0.05
    assert line["code_line"].startswith("tests/observe/test_slow.py:")
    assert line["code_line"].endswith(" in report")
    assert line["database"] == db.url.database.rpartition("/")[2]  # type: ignore[union-attr]
    assert "SELECT" in line["message"]
    db.dispose()


def test_neither_parameters_nor_literals_are_in_the_log(
    database_url: str, log: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, written = log
    db = SQLAlchemy(database_url)
    slow_queries = SlowQueries(0, logger=logger)
    try:
        with db():
            db.session.execute(sa.text(f"SELECT '{CANARY}',\n :name AS name"), {"name": CANARY}).all()
            with pytest.raises(sa.exc.DBAPIError):
                db.session.execute(sa.text(f"SELECT * FROM missing WHERE x = '{CANARY}'"))
    finally:
        slow_queries.close()
    answered, failed = (
        line for line in lines(written) if "SELECT ?" in line["statement"] or "missing" in line["statement"]
    )
    assert (answered["rows"], answered["error_class"]) == (1, None)
    assert failed["error_class"] is not None
    assert CANARY not in written.getvalue()
    db.dispose()


async def test_an_async_statement_is_logged_with_its_line(
    database_url: str, log: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, written = log
    db = SQLAlchemy(database_url)
    slow_queries = SlowQueries(0.05, logger=logger)
    try:
        async with db():
            (await db.async_session.execute(sa.text(slow(database_url)))).all()
    finally:
        slow_queries.close()
    (line,) = lines(written)
    assert line["code_line"].startswith("tests/observe/test_slow.py:")
    await db.adispose()


def test_a_slow_statement_whose_rows_nobody_read_is_logged_as_well(
    memory_url: str, log: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, written = log
    db = SQLAlchemy(memory_url)
    slow_queries = SlowQueries(0, logger=logger)
    try:
        with db.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1 AS unread"))
    finally:
        slow_queries.close()
    assert ["unread" in line["statement"] for line in lines(written)].count(True) == 1
    db.dispose()


def test_the_time_of_fetching_rows_counts(memory_url: str, log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log
    db = SQLAlchemy(memory_url)
    statement = COUNT.replace("count(*)", "n").format(300_000)  # SQLite makes a row when it is fetched
    slow_queries = SlowQueries(0.02, logger=logger)
    try:
        with db():
            assert len(db.session.execute(sa.text(statement)).all()) == 300_000
    finally:
        slow_queries.close()
    assert [line["rows"] for line in lines(written)] == [300_000]
    db.dispose()


def test_a_bound_below_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="0 or more"):
        SlowQueries(-1)
