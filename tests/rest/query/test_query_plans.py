"""One statement serves every request of one shape, with its own values."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy.rest.query import Cursor, Ordering, Plans, QueryError, compile_filters, parse_query

DATABASES = ("sqlite", "postgresql", "mariadb")
Params = list[tuple[str, str]]


@pytest.fixture(scope="module", autouse=True)
def _rows(bench: Any) -> None:
    bench.empty()
    rows = [{"id": key, "text": f"t{key % 5}É", "small": None if key % 4 == 0 else key % 7} for key in range(1, 41)]
    bench.insert("thing", rows)


class Client:
    def __init__(self, bench: Any, database: str) -> None:
        self.engine = bench.engine(database)
        self.resource = bench.resource("thing")
        self.plans = Plans(self.resource)

    def select(self, ordering: Ordering) -> Any:
        return sa.select(*(field.column for field in self.resource.key), *ordering.columns())

    def plan(self, *params: tuple[str, str]) -> Any:
        return self.plans.page(parse_query(self.resource, params), self.engine.dialect, "keys", self.select)

    def run(self, statement: Any, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement, parameters)]

    def planned(self, *params: tuple[str, str]) -> list[tuple[Any, ...]]:
        found = self.plan(*params)
        return found.rows(self.run)

    def direct(self, *params: tuple[str, str]) -> list[tuple[Any, ...]]:
        query = parse_query(self.resource, params)
        ordering = Ordering(self.resource, query.sort, self.engine.dialect)
        statement = self.select(ordering).where(*compile_filters(query, self.resource, self.engine.dialect))
        statement = statement.where(*ordering.criteria(query.cursor)).order_by(*ordering.order_by())
        return self.run(statement.limit(query.limit + 1).offset(query.offset or 0), {})


@pytest.mark.parametrize("database", DATABASES)
def test_a_plan_answers_as_a_statement_of_its_own_does(bench: Any, database: str) -> None:
    client = Client(bench, database)
    first: list[Params] = [
        [("small", "3")],
        [("small__in", "1,2,3"), ("text", "t1É")],
        [("text__icontains", "T2é"), ("sort", "-small")],
        [("q", "T3"), ("offset", "1"), ("limit", "3")],
        [("filter", '{"or": [{"small__lt": 2}, {"not": {"small__between": [0, 5]}}]}')],
    ]
    second: list[Params] = [
        [("small", "5")],
        [("small__in", "4"), ("text", "t4É")],
        [("text__icontains", "0É"), ("sort", "-small")],
        [("q", "t4"), ("offset", "2"), ("limit", "5")],
        [("filter", '{"or": [{"small__lt": 4}, {"not": {"small__between": [2, 3]}}]}')],
    ]
    for params in first:
        assert client.planned(*params) == client.direct(*params) != []
    built = len(client.plans)
    for params in second:
        assert client.planned(*params) == client.direct(*params) != []
    assert len(client.plans) == built == 5


@pytest.mark.parametrize("database", DATABASES)
def test_a_plan_follows_cursors(bench: Any, database: str) -> None:
    client = Client(bench, database)
    base = [("sort", "small.nullsfirst"), ("limit", "6")]
    seen: list[Any] = []
    cursor = ""
    while True:
        rows = client.planned(*base, ("cursor", cursor))
        seen += [row[0] for row in rows[:6]]
        if len(rows) < 7:
            break
        ordering = client.plan(*base).ordering
        cursor = ordering.encode(Cursor(rows[5][1:])) or ""
    assert seen == [row[0] for row in client.direct(("sort", "small.nullsfirst"))]
    assert len(client.plans) == 4  # no cursor, the start, past NULL, past a value


def test_what_changes_the_text_of_a_statement_has_a_plan_of_its_own(bench: Any) -> None:
    client = Client(bench, "sqlite")
    statements = {
        client.plan(*params).statements
        for params in (
            [],
            [("offset", "0")],
            [("offset", "5")],
            [("sort", "small")],
            [("sort", "-small")],
            [("small", "1")],
            [("small__isnull", "true")],
            [("small__isnull", "false")],
            [("q", "x")],
        )
    }
    assert len(statements) == 9


def test_the_number_of_plans_is_bounded(bench: Any) -> None:
    client = Client(bench, "sqlite")
    client.plans.maximum = 3
    for sort in ("id", "-id", "text", "-text", "small", "-small"):
        client.plan(("sort", sort))
        assert len(client.plans) <= 3


@pytest.mark.parametrize("database", DATABASES)
def test_a_count_is_planned(bench: Any, database: str) -> None:
    client = Client(bench, database)
    for value, number in (("3", 5), ("6", 4)):
        query = parse_query(client.resource, [("small", value), ("limit", "1"), ("sort", "text")])
        statement, parameters = client.plans.count(query, client.engine.dialect)
        assert client.run(statement, parameters) == [(number,)]
    assert len(client.plans) == 1


def test_a_forged_cursor_does_not_reach_a_plan(bench: Any) -> None:
    client = Client(bench, "postgresql")
    text = Ordering(client.resource, parse_query(client.resource, [("sort", "small")]).sort, client.engine.dialect)
    good, bad = (text.encode(Cursor((value, 1))) or "" for value in (1, "x"))
    client.planned(("sort", "small"), ("cursor", good))
    with pytest.raises(QueryError):
        client.planned(("sort", "small"), ("cursor", bad))
