"""A query string is read into filters, order, page and columns."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_sqlalchemy.rest.query import QueryError, QuerySettings, parse_query
from fastapi_sqlalchemy.rest.query.tree import Comparison, Related


def read(bench: Any, entity: str, *params: tuple[str, str], **options: Any) -> Any:
    return parse_query(bench.resource(entity), params, **options)


def test_nothing_asked_is_the_first_page(bench: Any) -> None:
    query = read(bench, "thing")
    assert (query.filters, query.search, query.sort, query.limit, query.offset) == ((), None, (), 50, None)
    assert (query.cursor, query.fields, dict(query.include), query.count) == (None, None, {}, "none")
    assert query.style == "cursor"
    assert not query.is_filtered


def test_the_style_of_pages_is_that_of_the_request(bench: Any) -> None:
    assert read(bench, "thing", ("offset", "0")).style == "offset"
    assert read(bench, "thing", ("cursor", "")).style == "cursor"
    assert read(bench, "thing", ("cursor", ""), ("offset", "3")).style == "offset"


def test_sort_reads_directions_and_places_of_null(bench: Any) -> None:
    query = read(bench, "thing", ("sort", "-at,text.nullsfirst, small.nullslast,+id,-at"))
    found = [(key.field.name, key.descending, key.nulls_last) for key in query.sort]
    assert found == [("at", True, True), ("text", False, False), ("small", False, True), ("id", False, True)]


def test_fields_and_includes_are_resolved(bench: Any) -> None:
    query = read(bench, "Person", ("fields", "name,id,name"), ("include", "pets.tags,boss,pets"))
    assert [field.name for field in query.fields] == ["name", "id"]
    assert query.include == {"pets": {"tags": {}}, "boss": {}}


def test_includes_are_bounded_in_depth(bench: Any) -> None:
    with pytest.raises(QueryError, match="deeper than 2"):
        read(bench, "Person", ("include", "pets.tags.pets"))
    deeper = QuerySettings(max_include_depth=3)
    assert parse_query(bench.resource("Person"), [("include", "pets.tags.pets")], deeper).include


@pytest.mark.parametrize(
    ("name", "column", "operator"),
    [
        ("limit.eq", "limit", "eq"),
        ("limit__eq", "limit", "eq"),
        ("limit__gt", "limit", "gt"),
        ("q.eq", "q", "eq"),
        ("q__contains", "q", "contains"),
        ("and", "and", "eq"),
        ("age", "age", "eq"),
        ("age.gt", "age", "gt"),
        ("age__gt", "age__gt", "eq"),
        ("age__gt.eq", "age__gt", "eq"),
        ("age__gt__lt", "age__gt", "lt"),
        ("a.b", "a.b", "eq"),
        ("a.b.eq", "a.b", "eq"),
        ("a.b__gte", "a.b", "gte"),
        ("with, comma", "with, comma", "eq"),
        ("größe__in", "größe", "in"),
        ("-minus", "-minus", "eq"),
    ],
)
def test_a_column_of_any_name_can_be_reached(bench: Any, name: str, column: str, operator: str) -> None:
    [node] = read(bench, "odd names", (name, "1")).filters
    assert isinstance(node, Comparison)
    assert (node.field.name, node.operator) == (column, operator)


def test_columns_of_odd_names_can_be_sorted_and_chosen(bench: Any) -> None:
    query = read(
        bench, "odd names", ("sort", "-minus,--minus,a.b.nullsfirst,with\\, comma,limit"), ("fields", "with\\, comma,q")
    )
    assert [key.field.name for key in query.sort] == ["-minus", "a.b", "with, comma", "limit"]
    assert [field.name for field in query.fields] == ["with, comma", "q"]


def test_odd_columns_are_found_by_every_database(bench: Any) -> None:
    bench.empty()
    row = {
        "id": 1,
        "limit": 2,
        "q": "x",
        "and": 3,
        "age": 4,
        "age__gt": 5,
        "a.b": 6,
        "with, comma": 7,
        "-minus": 8,
        "größe": 9,
    }
    bench.insert("odd names", [row])
    params = [("limit.eq", "2"), ("and", "3"), ("age.gt", "3"), ("age__gt", "5"), ("a.b", "6"), ("größe", "9")]
    assert bench.find("odd names", *params, ("sort", "größe,-a.b")) == [1]
    assert bench.find("odd names", ("filter", '{"and.eq": 3, "q.eq": "x", "not": {"-minus": 1}}')) == [1]


def test_a_path_of_relations_nests(bench: Any) -> None:
    [node] = read(bench, "Person", ("pets.tags.label__icontains", "x")).filters
    assert isinstance(node, Related)
    assert node.relation.name == "pets"
    assert isinstance(node.item, Related)
    assert isinstance(node.item.item, Comparison)


def test_a_route_takes_the_reserved_names_it_wants(bench: Any) -> None:
    only = {"reserved": ("q", "filter")}
    assert read(bench, "thing", ("q", "x"), **only).search == "x"
    with pytest.raises(QueryError, match="unknown parameter limit"):
        read(bench, "thing", ("limit", "5"), **only)
    with pytest.raises(QueryError, match="unknown parameter sort"):
        read(bench, "thing", ("sort", "id"), **only)
    [node] = read(bench, "odd names", ("limit", "5"), **only).filters
    assert isinstance(node, Comparison)
    assert node.field.name == "limit"


def test_a_route_reads_names_of_its_own(bench: Any) -> None:
    query = read(bench, "thing", ("group_by", "size"), ("sum", "price"), ("small", "1"), ignore=("group_by", "sum"))
    assert len(query.filters) == 1


def test_a_value_that_a_type_of_the_user_refuses_is_a_fault_of_the_query() -> None:
    import ipaddress

    import sqlalchemy as sa

    from fastapi_sqlalchemy.rest.resource import ResourceRegistry, resource_for

    class Address(sa.TypeDecorator[str]):
        impl = sa.String(40)
        cache_ok = True

        def process_bind_param(self, value: Any, dialect: Any) -> Any:
            return None if value is None else str(ipaddress.ip_address(value))

    table = sa.Table("host", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("ip", Address))
    resource = resource_for(table, registry=ResourceRegistry())
    assert parse_query(resource, [("ip", "127.0.0.1")]).filters
    with pytest.raises(QueryError, match="ip is not a value of this column"):
        parse_query(resource, [("ip", "not an address")])
