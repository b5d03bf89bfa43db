"""Many rows that are upserted at once, on every database: their values, their parameters and their hooks."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.systems import routed


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_more_values_than_a_statement_has_parameters_are_upserted(database_url: str, use_async: bool) -> None:
    db = SQLAlchemy(database_url)
    columns = [sa.Column(f"c{number}", sa.Integer) for number in range(69)]
    table = sa.Table("wide", db.metadata, sa.Column("id", sa.Integer, primary_key=True), *columns)
    rows = [{"id": number, **{column.name: number for column in columns}} for number in range(1000, 0, -1)]
    with routed(db, CRUDRouter(table, db=db, bulk=True, use_async=use_async)) as client:
        for sent in (rows[:10], [{**row, "c68": 0} for row in rows]):
            answered = client.post("/wide/-/upsert", json=sent)
            assert (answered.status_code, answered.json()) == (200, sent)
        with db.engine.connect() as connection:
            assert connection.execute(sa.select(sa.func.count(), sa.func.max(table.c.c68))).one() == (1000, 0)


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_many_rows_are_upserted_beside_parameters_of_the_statement(database_url: str, use_async: bool) -> None:
    """SQLAlchemy names those of a list of owners and of ``onupdate`` as the columns ``owner_1`` and ``param_1`` are."""
    db = SQLAlchemy(database_url)
    table = sa.Table(
        "kept",
        db.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("owner", sa.Integer),
        sa.Column("owner_1", sa.Integer),
        sa.Column("param_1", sa.Integer),
        sa.Column("touched", sa.Integer, onupdate=7),
    )
    scopes = {"/all": None, "/one": lambda: table.c.owner == 1, "/some": lambda: table.c.owner.in_([1, 2])}
    routers = [
        CRUDRouter(table, db=db, prefix=prefix, scope_query=scope, use_async=use_async)
        for prefix, scope in scopes.items()
    ]
    with routed(db, *routers) as client:
        for prefix in scopes:
            with db.engine.begin() as connection:
                connection.execute(table.delete())
            rows = [{"id": number, "owner": 1, "owner_1": number, "param_1": 0} for number in (3, 1, 2)]
            for touched in (None, 7):
                answered = client.post(f"{prefix}/-/upsert", json=rows)
                assert answered.status_code == 200, answered.text
                assert answered.json() == [{**row, "touched": touched} for row in rows]


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_many_rows_are_upserted_under_any_rule_of_their_owner(database_url: str, use_async: bool) -> None:
    db = SQLAlchemy(database_url)
    table = sa.Table(
        "ruled", db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("owner", sa.Integer)
    )
    rules = {
        "/equal": lambda: table.c.owner == 1,
        "/less": lambda: [table.c.owner < 2, table.c.id != 9],
        "/both": lambda: sa.and_(table.c.owner == 1, table.c.id != 9),
        "/listed": lambda: table.c.owner.in_([1, 3]),
        "/computed": lambda: table.c.owner == sa.func.coalesce(1, 2),
        "/named": lambda: table.c.owner == sa.bindparam("who", 1),
    }
    routers = [
        CRUDRouter(table, db=db, prefix=prefix, scope_query=rule, use_async=use_async) for prefix, rule in rules.items()
    ]
    with routed(db, *routers) as client:
        for prefix in rules:
            with db.engine.begin() as connection:
                connection.execute(table.delete())
                connection.execute(table.insert(), [{"id": 2, "owner": 1}, {"id": 5, "owner": 2}])
            rows = [{"id": number, "owner": 1} for number in (3, 1, 2)]
            answered = client.post(f"{prefix}/-/upsert", json=rows)
            assert (answered.status_code, answered.json()) == (200, rows), (prefix, answered.text)
            assert client.post(f"{prefix}/-/upsert", json=[*rows, {"id": 5, "owner": 1}]).status_code == 404


class Shouting:
    """Hooks that store every third name in capitals, by the database, and no fourth one."""

    def before_create(self, session: Any, values: dict[str, Any]) -> None:
        if values["id"] % 3 == 0:
            values["name"] = sa.func.upper(values["name"])
        elif values["id"] % 4 == 0:
            values["name"] = sa.null()

    before_upsert = before_create


def test_hooks_of_a_table_may_give_sql_in_some_rows_of_many(database_url: str) -> None:
    db = SQLAlchemy(database_url)
    key = sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
    table = sa.Table("shouted", db.metadata, key, sa.Column("name", sa.String(10)))
    with routed(db, CRUDRouter(table, db=db, bulk=True, hooks=Shouting())) as client:
        for path, names, stored in (("", "abcd", "abC"), ("/-/upsert", "wxyz", "wxY")):
            rows = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
            answered = client.post(f"/shouted{path}", json=rows)
            assert answered.status_code in (200, 201), answered.text
            assert [row["name"] for row in answered.json()] == [*stored, None]
