"""The parameters of OpenAPI: every column and operator, each with a schema of what is really taken."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastapi_sqlalchemy.rest.query import QuerySettings, operators_of, parse_query, query_parameters
from fastapi_sqlalchemy.rest.query.openapi import MAX_PARAMETERS
from fastapi_sqlalchemy.rest.resource import ResourceRegistry, resource_for

CANARY = ("secret_word", "password", "api_key")


def names(parameters: list[dict[str, Any]]) -> list[str]:
    return [item["name"] for item in parameters]


def test_every_column_and_operator_is_a_parameter(bench: Any) -> None:
    resource = bench.resource("thing")
    found = names(query_parameters(resource))
    assert len(found) == len(set(found))
    for field in resource.filterable.values():
        for operator in operators_of(field):
            assert (field.name if operator == "eq" else f"{field.name}__{operator}") in found
    for reserved in ("q", "filter", "sort", "limit", "offset", "cursor", "fields", "include", "count"):
        assert (reserved in found) is (reserved != "include" or bool(resource.relations))


def test_no_secret_is_documented(bench: Any) -> None:
    for entity in ("thing", "Person", "Pet", "Tag"):
        text = json.dumps(query_parameters(bench.resource(entity)))
        assert not [word for word in CANARY if word in text]


def test_a_column_of_a_reserved_name_is_documented_by_its_escape(bench: Any) -> None:
    found = names(query_parameters(bench.resource("odd names")))
    assert "limit.eq" in found
    assert "q.eq" in found
    assert found.count("limit") == 1


def test_columns_of_related_tables_are_documented(bench: Any) -> None:
    found = names(query_parameters(bench.resource("Pet")))
    assert {"owner.city", "tags.label"} <= set(found)


def test_a_route_documents_the_reserved_names_it_takes(bench: Any) -> None:
    found = names(query_parameters(bench.resource("thing"), reserved=("q", "filter")))
    assert "q" in found
    assert "limit" not in found


def test_a_wide_table_has_a_bounded_number_of_parameters() -> None:
    for width in (30, 200, 1000):
        columns = [sa.Column(f"c{number}", sa.String(5)) for number in range(width)]
        table = sa.Table("wide", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), *columns)
        resource = resource_for(table, registry=ResourceRegistry())
        found = names(query_parameters(resource))
        assert len(found) <= MAX_PARAMETERS
        assert "c0" in found
        assert {"limit", "sort", "filter", "count"} <= set(found)
        assert parse_query(resource, [(f"c{width - 1}__icontains", "x")]).filters


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of the schemas that the parameters use."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema["type"]
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(schema["minimum"], schema["maximum"])
    if kind == "number":
        return st.floats(schema["minimum"], schema["maximum"])
    if kind == "array":
        items = values(schema["items"])
        return st.lists(items, min_size=schema.get("minItems", 0), max_size=min(schema.get("maxItems", 4), 4))
    longest = schema.get("maxLength")
    form = schema.get("format")
    if form == "uuid":
        return st.uuids().map(str)
    if form == "date":
        return st.dates().map(str)
    if form == "date-time":
        return st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
    if "pattern" in schema:
        found = st.from_regex(re.compile(schema["pattern"].replace(r"\u0000", "\x00")))
        return found.map(lambda text: text.removesuffix("\n")).filter(
            lambda text: longest is None or len(text) <= longest
        )
    return st.text(max_size=longest)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
@given(data=st.data())
@pytest.mark.parametrize("entity", ["thing", "Pet", "odd names"])
def test_what_the_document_allows_is_taken(bench: Any, entity: str, data: st.DataObject) -> None:
    resource = bench.resource(entity)
    parameters = query_parameters(resource)
    params: list[tuple[str, str]] = []
    for item in data.draw(st.lists(st.sampled_from(parameters), max_size=4, unique_by=lambda item: item["name"])):
        if "content" in item:
            properties = item["content"]["application/json"]["schema"]["properties"]
            name = data.draw(st.sampled_from(sorted(properties)))
            schema = properties[name]
            if isinstance(schema.get("type"), list):
                schema = {**schema, "type": schema["type"][0]}
            if schema != {"type": "null"}:
                params.append((item["name"], json.dumps({name: data.draw(values(schema))})))
            continue
        value = data.draw(values(item["schema"]))
        assert item["schema"].get("type") != "array" or item["style"] == "form"
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        params.append((item["name"], text.lower() if isinstance(value, bool) else text))
    parse_query(resource, params, QuerySettings())
