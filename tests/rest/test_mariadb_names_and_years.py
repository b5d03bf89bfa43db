"""Names with a percent sign and years of two digits on MariaDB."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient
from tests.support.reflected import pages, serving


@pytest.mark.parametrize("insert_returning", [True, False])
def test_a_name_with_a_percent_sign_can_be_upserted(database_url: str, insert_returning: bool) -> None:
    db = SQLAlchemy(database_url)
    table = sa.Table(
        "discount",
        db.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("code%", sa.String(20), unique=True),
        sa.Column("10%", sa.Integer),
        sa.Column("%s", sa.Integer),
    )
    db.create_all()
    if not insert_returning:
        db.engine.dialect.insert_returning = False
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    app.include_router(CRUDRouter(table, db=db))
    with TestClient(app) as client:
        for ten in (1, 2):
            body = {"code%": "a", "10%": ten, "%s": ten}
            answer = client.post("/discount/-/upsert?on_conflict=code%25", json=[body])
            assert answer.status_code < 300, answer.text
        assert [{**row, "id": 0} for row in client.get("/discount").json()] == [{**body, "id": 0}]


def test_a_year_of_two_digits_is_text_that_sorts_as_it_compares(mariadb_url: str) -> None:
    db = SQLAlchemy(mariadb_url)
    with db.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id int PRIMARY KEY, y YEAR(2), z YEAR(4) NOT NULL)")
        connection.exec_driver_sql(
            "INSERT INTO t VALUES (1,1999,1999),(2,2000,2000),(3,2001,2001),(4,1970,1970),(5,2069,2069),(6,NULL,0)"
        )
    db.dispose()
    with serving(mariadb_url) as (client, _):
        rows = client.get("/t").json()
        for sort in ("y", "-y", "z", "-z", "y.nullsfirst"):
            walked = pages(client, "/t", limit=2, sort=sort)
            assert sorted(map(str, walked)) == sorted(map(str, rows)), sort
        assert {row["id"]: row["y"] for row in rows} == {1: "99", 2: "00", 3: "01", 4: "70", 5: "69", 6: None}
        assert [row["id"] for row in pages(client, "/t", limit=2, sort="y.nullslast")] == [2, 3, 5, 4, 1, 6]
        for row in rows[:5]:
            assert [found["id"] for found in client.get("/t", params={"y": row["y"]}).json()] == [row["id"]]
