"""Walks by cursor: no row that stays is lost or seen twice, whatever comes and goes, and every page costs the same."""

# ruff: noqa: DTZ001  (the columns hold naive moments)

from __future__ import annotations

import base64
import datetime as dt
import json
import random
import uuid
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_sqlalchemy.rest.pagination import make_page
from fastapi_sqlalchemy.rest.query import Cursor, Ordering, Plans, QueryError, QuerySettings, parse_query
from fastapi_sqlalchemy.rest.query import cursor as cursors
from fastapi_sqlalchemy.rest.resource import ResourceRegistry, resource_for

DATABASES = ("sqlite", "postgresql", "mariadb")
SORTABLE = (
    "text",
    "note",
    "small",
    "big",
    "ratio",
    "single",
    "price",
    "flag",
    "day",
    "clock",
    "at",
    "instant",
    "span",
    "uid",
    "color",
    "size",
    "data",
)
Row = dict[str, Any]


def random_row(bench: Any, key: int, chance: random.Random) -> Row:
    color = bench.tables["thing"].c.color.type.enum_class
    sets: dict[str, list[Any]] = {
        "text": ["", "a", "A", "b", "é", "É", "a ", "ß", "ss", "🎉", "%"],
        "note": ["x", "X", "y"],
        "small": [-1, 0, 1],
        "big": [-(2**63), 0, 2**63 - 1],
        "ratio": [-1e300, 0.1, 0.30000000000000004, 1e-310],
        "single": [0.1, 0.2, 1 / 3],
        "price": [Decimal("0.10"), Decimal("0.30"), Decimal("12345678.91")],
        "flag": [True, False],
        "day": [dt.date(1970, 1, 1), dt.date(2024, 2, 29)],
        "clock": [dt.time(0), dt.time(12, 30, 0, 5)],
        "at": [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 0, 0, 0, 1)],
        "instant": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 6, 1, tzinfo=dt.UTC)],
        "span": [dt.timedelta(0), dt.timedelta(days=2), dt.timedelta(seconds=-5)],
        "uid": [uuid.UUID(int=1), uuid.UUID(int=2**127 + 5), uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")],
        "color": list(color),
        "size": ["s", "m", "l"],
        "data": [b"", b"\x00", b"\xff\x00"],
    }
    return {
        "id": key,
        **{name: None if chance.random() < 0.25 else chance.choice(values) for name, values in sets.items()},
    }


@pytest.fixture(scope="module")
def things(bench: Any) -> list[Row]:
    bench.empty()
    chance = random.Random(11)
    rows = [random_row(bench, key, chance) for key in range(1, 61)]
    bench.insert("thing", rows)
    return rows


class Walk:
    """A client that follows the links of one list on one database."""

    def __init__(self, bench: Any, database: str, entity: Any, *params: tuple[str, str], key: bytes = b"k") -> None:
        self.engine = bench.engine(database)
        self.resource = bench.resource(entity) if isinstance(entity, str) else entity
        self.base = list(params)
        self.settings = QuerySettings(cursor_key=key)
        self.page: Any = None
        self.plans = Plans(self.resource)

    def get(self, *params: tuple[str, str]) -> list[Any]:
        given_params = [*self.base, *params]
        query = parse_query(self.resource, given_params, self.settings)
        ordering = Ordering(self.resource, query.sort, self.engine.dialect)
        backward = query.cursor is not None and query.cursor.backward
        statement = (
            sa.select(*(field.column for field in self.resource.key), *ordering.columns())
            .select_from(self.resource.table)
            .where(*ordering.criteria(query.cursor))
            .order_by(*ordering.order_by(backward=backward))
            .limit(query.limit + 1)
            .offset(query.skip)
        )
        columns = [field.column for field in self.resource.key]
        planned = self.plans.page(
            query,
            self.engine.dialect,
            "walk",
            lambda made: sa.select(*columns, *made.columns()).select_from(self.resource.table),
        )
        with self.engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(statement)]
            assert planned.rows(lambda *asked: [tuple(row) for row in connection.execute(*asked)]) == rows
        self.page = make_page(
            query, ordering, rows, places=None, path="/x", params=given_params, cursor_key=self.settings.cursor_key
        )
        width = len(self.resource.key)
        return [row[0] if width == 1 else row[:width] for row in self.page.rows]

    def follow(self, link: str) -> list[Any]:
        params = dict(parse_qsl(urlsplit(link).query, keep_blank_values=True))
        return self.get(*((name, params[name]) for name in ("cursor", "offset") if name in params))

    def all(self) -> list[Any]:
        found = self.get()
        while self.page.next is not None:
            found += self.follow(self.page.next)
        return found


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("form", ["{}", "-{}", "{}.nullsfirst", "-{}.nullsfirst"])
def test_a_walk_on_any_column_sees_what_one_query_sees(bench: Any, things: list[Row], database: str, form: str) -> None:
    for name in SORTABLE:
        sort = ("sort", form.format(name))
        whole = Walk(bench, database, "thing", sort, ("limit", "500")).get()
        assert len(whole) == len(things)
        walk = Walk(bench, database, "thing", sort, ("limit", "7"))
        assert walk.all() == whole, name
        back: list[Any] = []
        while walk.page.prev is not None:
            back = walk.follow(walk.page.prev) + back
        assert back == whole[:56], name


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    keys=st.lists(
        st.tuples(st.sampled_from(SORTABLE), st.booleans(), st.sampled_from(["", "first", "last"])),
        max_size=4,
        unique_by=lambda item: item[0],
    ),
    size=st.integers(1, 20),
)
def test_a_walk_on_any_mixture_of_columns_sees_every_row_once(
    bench: Any, things: list[Row], keys: list[tuple[str, bool, str]], size: int
) -> None:
    sort = ",".join(f"{'-' if down else ''}{name}{'.nulls' + nulls if nulls else ''}" for name, down, nulls in keys)
    params = [("sort", sort)] if sort else []
    for database in bench.engines:
        whole = Walk(bench, database, "thing", *params, ("limit", "500")).get()
        assert Walk(bench, database, "thing", *params, ("limit", str(size))).all() == whole


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize(
    "sort", ["", "a", "-a", "b", "-b", "a,-b", "left", "-right", "b.nullsfirst,a", "-a,-b.nullsfirst"]
)
def test_rows_that_stay_are_seen_once_while_others_come_and_go(bench: Any, database: str, sort: str) -> None:
    chance = random.Random(f"{database}{sort}")
    table = bench.tables["pair"]
    engine = bench.engine(database)

    def row(number: int) -> Row:
        b = chance.choice([None, 1, 2, 3])
        return {"left": chance.choice(["a", "B", "é", "c d"]), "right": number, "a": chance.randint(0, 4), "b": b}

    rows = [row(number) for number in range(0, 300, 3)]
    staying = {(item["left"], item["right"]) for item in rows[::2]}
    with engine.begin() as connection:
        connection.execute(table.delete())
        connection.execute(sa.insert(table), rows)
    walk = Walk(bench, database, "pair", *([("sort", sort)] if sort else []), ("limit", "7"))
    seen = walk.get()
    number = 1
    while walk.page.next is not None:
        with engine.begin() as connection:
            connection.execute(sa.insert(table), [row(number), row(number + 1)])
            number += 3
            gone = chance.choice(seen[-7:])
            if tuple(gone) not in staying:
                connection.execute(table.delete().where(table.c.left == gone[0], table.c.right == gone[1]))
        seen += walk.follow(walk.page.next)
    assert len(seen) == len(set(seen))
    assert staying <= set(seen)


@pytest.mark.parametrize(
    ("sort", "index"),
    [("", "PRIMARY KEY"), ("-id", "PRIMARY KEY"), ("age", "ix_n_age"), ("-age", "ix_n_age"), ("age,-id", "ix_n_age")],
)
def test_a_page_by_cursor_searches_an_index_and_sorts_nothing(bench: Any, sort: str, index: str) -> None:
    table = sa.Table(
        "n",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("age", sa.Integer, nullable=False, index=True),
    )
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        resource = resource_for(table, registry=ResourceRegistry())
        query = parse_query(resource, [("sort", sort)] if sort else [])
        ordering = Ordering(resource, query.sort, engine.dialect)
        values = (5,) if len(ordering.keys) == 1 else (5, 7)
        statement = sa.select(table).where(*ordering.criteria(Cursor(values))).order_by(*ordering.order_by()).limit(50)
        compiled = statement.compile(engine)
        values = tuple(compiled.construct_params()[name] for name in compiled.positiontup)
        plan = " ".join(str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values))
    engine.dispose()
    assert plan.startswith("SEARCH n USING")
    assert index in plan
    if sort != "age,-id":
        assert "TEMP B-TREE" not in plan


def executed(
    engine: sa.Engine, connection: sa.Connection, table: sa.Table, sort: str, cursor: Cursor
) -> dict[str, Any]:
    """What PostgreSQL did for the first statement of a page."""
    resource = resource_for(table, registry=ResourceRegistry())
    query = parse_query(resource, [("sort", sort)])
    query = replace(query, cursor=cursor)
    planned = Plans(resource).page(query, engine.dialect, "all", lambda _: sa.select(table))
    compiled = (
        planned.statements[0].params(**planned.parameters).compile(engine, compile_kwargs={"literal_binds": True})
    )
    plan: Any = connection.execute(sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}")).scalar_one()
    node: dict[str, Any] = plan[0]["Plan"]["Plans"][0]
    return node


@pytest.mark.parametrize("sort", ["age", "-age", "maybe", "-maybe", "-maybe.nullsfirst"])
def test_a_deep_page_reads_as_few_rows_as_the_first_on_postgresql(bench: Any, sort: str) -> None:
    engine = bench.engine("postgresql")
    table = sa.Table(
        "deep",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("age", sa.Integer, nullable=False),
        sa.Column("maybe", sa.Integer),
        prefixes=["TEMPORARY"],
    )
    with engine.connect() as connection:
        table.create(connection)
        fill = "INSERT INTO deep SELECT n, n / 10, CASE WHEN n % 7 > 0 THEN n / 10 END FROM generate_series(1, 20000) n"
        connection.execute(sa.text(fill))
        connection.execute(sa.text("CREATE INDEX ON deep (age, id)"))
        connection.execute(sa.text("CREATE INDEX ON deep (maybe, id)"))
        connection.execute(sa.text("ANALYZE deep"))
        for cursor in (Cursor((1500, 15_003)), Cursor((500, 5_003), backward=True)):
            node = executed(engine, connection, table, sort, cursor)
            assert node["Node Type"] in ("Index Only Scan", "Index Scan")
            assert node["Actual Rows"] <= 51
            assert node.get("Rows Removed by Filter", 0) == 0
        connection.rollback()


@pytest.mark.parametrize("sort", ["age", "-age", "age.nullsfirst", "-age.nullsfirst"])
def test_a_page_of_a_column_with_nulls_searches_its_index(bench: Any, sort: str) -> None:
    table = sa.Table(
        "n",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("age", sa.Integer, index=True),
    )
    engine = sa.create_engine("sqlite://")
    resource = resource_for(table, registry=ResourceRegistry())
    plans: list[str] = []
    with engine.begin() as connection:
        table.create(connection)
        for values in ((5, 7), (None, 7)):
            query = replace(parse_query(resource, [("sort", sort)]), cursor=Cursor(values))
            planned = Plans(resource).page(query, engine.dialect, "all", lambda _: sa.select(table))
            for statement in planned.statements:
                compiled = statement.compile(engine)
                given_values = compiled.construct_params(planned.parameters)
                bound = tuple(given_values[name] for name in compiled.positiontup)
                found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", bound)
                plans.append(" ".join(str(row[3]) for row in found))
    engine.dispose()
    assert len(plans) == 3
    assert all(plan.startswith("SEARCH n USING") and "ix_n_age" in plan for plan in plans)
    assert not any("TEMP B-TREE" in plan for plan in plans)


def test_moments_that_other_programs_wrote_into_sqlite_are_found_and_walked(bench: Any) -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE e (id INTEGER PRIMARY KEY, at DATETIME, day DATE, price NUMERIC(10,2))"
        )
        moments = [
            "2024-01-01 00:00:00",
            "2024-01-01 00:00:00.000",
            "2024-01-01",
            "2024-01-01 00:00:00.000000",
            "2024-01-02 10:00:00.5",
        ]
        for key in range(1, 21):
            connection.exec_driver_sql(
                "INSERT INTO e VALUES (?, ?, ?, ?)", (key, moments[key % 5], "2024-01-01", key % 3 + 0.1)
            )
    table = sa.Table("e", sa.MetaData(), autoload_with=engine)
    resource = resource_for(table, registry=ResourceRegistry())
    bench.engines["other"] = engine
    try:
        for sort in ("at", "-at", "price,-at", "day"):
            walk = Walk(bench, "other", resource, ("sort", sort), ("limit", "3"))
            assert sorted(walk.all()) == list(range(1, 21))
        for name, value, number in (
            ("at", "2024-01-01T00:00:00", 16),
            ("at__gte", "2024-01-01T00:00:00", 20),
            ("at__gt", "2024-01-01T00:00:00", 4),
            ("at__lt", "2024-01-01T00:00:00", 0),
            ("at__lte", "2024-01-01T00:00:00", 16),
            ("at", "2024-01-02T10:00:00.5", 4),
            ("at__ne", "2024-01-01", 4),
        ):
            assert len(bench.select("other", parse_query(resource, [(name, value)]), resource)) == number
    finally:
        del bench.engines["other"]
        engine.dispose()


def test_a_key_that_may_be_null_is_walked_on_sqlite(bench: Any) -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE loose (code TEXT PRIMARY KEY, n INT)")
        for code in ("a", "b", None, "c", None, "d"):
            connection.exec_driver_sql("INSERT INTO loose VALUES (?, 1)", (code,))
    resource = resource_for(sa.Table("loose", sa.MetaData(), autoload_with=engine), registry=ResourceRegistry())
    bench.engines["other"] = engine
    try:
        assert Walk(bench, "other", resource, ("limit", "3")).all() == ["a", "b", "c", "d", None, None]
    finally:
        del bench.engines["other"]
        engine.dispose()


def test_values_of_any_kind_in_a_column_of_sqlite_are_walked(bench: Any) -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE mixed (id INTEGER PRIMARY KEY, v INTEGER, w)")
        for value in (1, "text", 2.5, b"\x00\xff", None, "2024-01-01", 2**62, "", 1, "5"):
            connection.exec_driver_sql("INSERT INTO mixed (v, w) VALUES (?, ?)", (value, value))
    resource = resource_for(sa.Table("mixed", sa.MetaData(), autoload_with=engine), registry=ResourceRegistry())
    bench.engines["other"] = engine
    try:
        for sort in ("v", "-v", "w", "-w.nullsfirst", "w,-v"):
            assert sorted(Walk(bench, "other", resource, ("sort", sort), ("limit", "2")).all()) == list(range(1, 11))
        assert bench.select("other", parse_query(resource, [("w", "5")]), resource) == [(10,)]
        assert bench.select("other", parse_query(resource, [("w__contains", "ex")]), resource) == [(2,)]
    finally:
        del bench.engines["other"]
        engine.dispose()


@pytest.fixture
def cursor(bench: Any, things: list[Row]) -> str:
    walk = Walk(bench, "sqlite", "thing", ("sort", "text"), ("limit", "5"))
    walk.get()
    return str(walk.page.next_cursor)


def test_a_cursor_of_another_sort_table_or_key_is_refused(bench: Any, cursor: str) -> None:
    for entity, sort, key in (
        ("thing", "-text", b"k"),
        ("thing", "note", b"k"),
        ("odd names", "q", b"k"),
        ("thing", "text", b"other"),
    ):
        with pytest.raises(QueryError) as caught:
            parse_query(bench.resource(entity), [("sort", sort), ("cursor", cursor)], QuerySettings(cursor_key=key))
        assert caught.value.errors[0]["loc"] == ["query", "cursor"]


def test_no_change_of_a_cursor_goes_unseen(bench: Any, cursor: str) -> None:
    resource = bench.resource("thing")
    settings_ = QuerySettings(cursor_key=b"k")
    parse_query(resource, [("sort", "text"), ("cursor", cursor)], settings_)
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for place in range(len(raw)):
        changed = bytes([*raw[:place], raw[place] ^ 1, *raw[place + 1 :]])
        text = base64.urlsafe_b64encode(changed).decode().rstrip("=")
        with pytest.raises(QueryError):
            parse_query(resource, [("sort", "text"), ("cursor", text)], settings_)
    for text in (cursor[:-4], cursor + "AAAA", cursor[4:], cursor.swapcase()):
        with pytest.raises(QueryError):
            parse_query(resource, [("sort", "text"), ("cursor", text)], settings_)


FORGED: list[Any] = [
    ["f", "nan"],
    ["f", "-inf"],
    ["f", "1e308"],
    ["d", "NaN"],
    ["d", "-Infinity"],
    ["d", "9" * 100],
    ["d", "0." + "1" * 100],
    ["b", ""],
    ["b", "AAAA"],
    ["t", "0001-01-01"],
    ["t", "9999-12-31T23:59:59.999999"],
    ["t", "2024-01-01T00:00:00+14:00"],
    ["D", "0001-01-01"],
    ["D", "9999-12-31"],
    ["T", "23:59:59.999999"],
    ["T", "00:00+01:00"],
    ["i", "9" * 18],
    ["i", "-5"],
    ["u", "f" * 32],
    ["x", "y"],
    [],
    ["f"],
    ["f", None],
    [["f", "1"], "1"],
    {},
    1.5,
    2**63,
    -(2**63),
    "\x00",
    "\ud800",
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    value=st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=5)
    | st.lists(st.text(max_size=8) | st.integers(), max_size=3)
    | st.tuples(st.sampled_from("fdbtDTiu"), st.text(max_size=5))
    | st.sampled_from(FORGED),
    sort=st.sampled_from(SORTABLE),
)
def test_a_forged_cursor_is_refused_or_harmless(bench: Any, things: list[Row], value: Any, sort: str) -> None:
    """Somebody who knows the signing key can at most ask for another page."""
    resource = bench.resource("thing")
    query = parse_query(resource, [("sort", sort)])
    order = cursors.total_order(resource, query.sort)
    body = json.dumps([2, 0, 0, 0, [value, 1]]).encode()
    digest = cursors._sort_digest(resource, order)
    text = base64.urlsafe_b64encode(cursors._mac(b"", digest, body) + digest + body).decode().rstrip("=")
    for database in bench.engines:
        walk = Walk(bench, database, "thing", ("sort", sort), ("limit", "3"), key=b"")
        try:
            walk.get(("cursor", text))
        except QueryError:
            continue


def test_a_cursor_is_url_safe_and_bound_in_length(bench: Any) -> None:
    resource = bench.resource("thing")
    query = parse_query(resource, [("sort", "note")])
    ordering = Ordering(resource, query.sort, bench.engines["sqlite"].dialect)
    short = ordering.encode(Cursor(("é 🎉 & ?", 1)))
    assert short is not None
    assert short.isascii()
    assert short.replace("-", "").replace("_", "").isalnum()
    assert ordering.encode(Cursor(("x" * 10_000, 1))) is None


def test_a_row_too_large_for_a_cursor_is_linked_by_offset(bench: Any) -> None:
    bench.empty()
    bench.insert("thing", [{"id": key, "note": "x" * 9_000} for key in (1, 2, 3)])
    walk = Walk(bench, "sqlite", "thing", ("sort", "note"), ("limit", "2"))
    assert walk.get() == [1, 2]
    assert "offset=2" in walk.page.next
    assert walk.follow(walk.page.next) == [3]


def test_no_cursor_without_anything_to_sort_by(bench: Any) -> None:
    table = sa.Table("unsortable", sa.MetaData(), sa.Column("a", sa.JSON))
    resource = resource_for(table, registry=ResourceRegistry())
    with pytest.raises(QueryError, match="needs a column that can be sorted"):
        parse_query(resource, [("cursor", "")])
    assert not Ordering(resource, (), bench.engines["sqlite"].dialect).has_cursors
