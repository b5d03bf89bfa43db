"""Filters that look into related rows: EXISTS, no duplicates, and only rows that the caller may see."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_sqlalchemy.rest.query import QueryError, parse_query
from fastapi_sqlalchemy.rest.resource import ResourceRegistry, resource_for

Row = dict[str, Any]


@pytest.fixture(scope="module")
def world(bench: Any) -> dict[str, list[Row]]:
    chance = random.Random(7)
    names = ["Ann", "ann", "Bob", "Çem", None]
    people = [
        {
            "id": key,
            "name": chance.choice(names),
            "age": chance.choice([None, 10, 18, 40]),
            "city": chance.choice(["Rome", "Oslo"]),
            "boss_id": None if key < 4 else chance.randint(1, key - 1),
            "password": "canary-person",
        }
        for key in range(1, 16)
    ]
    pets = [
        {
            "id": key,
            "name": chance.choice(["Rex", "rex", "Tom"]),
            "weight": chance.choice([None, 1, 5]),
            "owner_id": chance.choice([None, *range(1, 13)]),
            "api_key": "canary-pet",
        }
        for key in range(1, 31)
    ]
    tags = [{"id": key, "label": label} for key, label in enumerate(["good", "bad", "old"], 1)]
    links = [
        {"pet_id": pet["id"], "tag_id": tag}
        for pet in pets
        for tag in sorted(chance.sample([1, 2, 3], chance.randint(0, 2)))
    ]
    bench.empty()
    for table, rows in {"person": people, "pet": pets, "tag": tags, "link": links}.items():
        for row in rows:
            bench.insert(table, [row])
    return {"person": people, "pet": pets, "tag": tags, "link": links}


def test_a_to_one_relation_is_followed(bench: Any, world: dict[str, list[Row]]) -> None:
    owners = {row["id"] for row in world["person"] if row["city"] == "Rome"}
    expected = [row["id"] for row in world["pet"] if row["owner_id"] in owners]
    assert bench.find("Pet", ("owner.city", "Rome")) == expected != []


def test_a_to_many_relation_repeats_no_row(bench: Any, world: dict[str, list[Row]]) -> None:
    found = bench.find("Person", ("pets.weight__gte", "1"))
    assert found == sorted({row["owner_id"] for row in world["pet"] if row["weight"] and row["owner_id"]})


def test_a_relation_over_an_association_table_is_followed(bench: Any, world: dict[str, list[Row]]) -> None:
    good = {row["pet_id"] for row in world["link"] if row["tag_id"] == 1}
    assert bench.find("Pet", ("tags.label", "good")) == sorted(good)
    owners = {row["owner_id"] for row in world["pet"] if row["id"] in good and row["owner_id"]}
    assert bench.find("Person", ("pets.tags.label__startswith", "goo")) == sorted(owners)


def test_a_relation_to_the_same_table_is_followed(bench: Any, world: dict[str, list[Row]]) -> None:
    people = {row["id"]: row for row in world["person"]}
    expected = [key for key, row in people.items() if row["boss_id"] and people[row["boss_id"]]["city"] == "Oslo"]
    assert bench.find("Person", ("boss.city", "Oslo")) == expected != []
    twice = [
        key
        for key, row in people.items()
        if row["boss_id"] and (boss := people[row["boss_id"]])["boss_id"] and people[boss["boss_id"]]["age"] == 18
    ]
    assert bench.find("Person", ("boss.boss.age", "18")) == twice


def test_whether_there_is_a_related_row_can_be_asked(bench: Any, world: dict[str, list[Row]]) -> None:
    owners = {row["owner_id"] for row in world["pet"]}
    without = [row["id"] for row in world["person"] if row["id"] not in owners]
    assert bench.find("Person", ("pets__isnull", "true")) == without != []
    assert bench.find("Person", ("filter", '{"pets": null}')) == without
    assert bench.find("Person", ("filter", '{"pets": {}}')) == sorted(owners - {None})


def test_conditions_in_one_object_meet_in_one_row(bench: Any, world: dict[str, list[Row]]) -> None:
    same = {row["owner_id"] for row in world["pet"] if row["name"] == "Rex" and row["weight"] == 1} - {None}
    rex = {row["owner_id"] for row in world["pet"] if row["name"] == "Rex"} - {None}
    light = {row["owner_id"] for row in world["pet"] if row["weight"] == 1} - {None}
    assert bench.find("Person", ("filter", '{"pets": {"name": "Rex", "weight": 1}}')) == sorted(same)
    assert bench.find("Person", ("pets.name", "Rex"), ("pets.weight", "1")) == sorted(rex & light)


def test_not_of_a_relation_means_no_such_row(bench: Any, world: dict[str, list[Row]]) -> None:
    rex = {row["owner_id"] for row in world["pet"] if row["name"] == "Rex"}
    expected = [row["id"] for row in world["person"] if row["id"] not in rex]
    assert bench.find("Person", ("filter", '{"not": {"pets.name": "Rex"}}')) == expected


def test_what_the_caller_may_not_see_is_no_related_row(bench: Any, world: dict[str, list[Row]]) -> None:
    resource = bench.resource("Person")
    query = parse_query(resource, [("pets.tags.label", "good")])
    pet = bench.tables["pet"]

    def visible(source: Any) -> Any:
        own = (source.adapt(pet.c.name == "Tom"),) if source.resource.table is pet else ()
        return (*source.criteria, *own)

    good = {row["pet_id"] for row in world["link"] if row["tag_id"] == 1}
    expected = sorted({row["owner_id"] for row in world["pet"] if row["id"] in good and row["name"] == "Tom"} - {None})
    for database in bench.engines:
        assert [key for (key,) in bench.select(database, query, resource, visible)] == expected


@pytest.mark.parametrize(
    "name",
    ["password", "password__ne", "password__isnull", "pets.api_key", "pets.api_key__startswith", "boss.password__in"],
)
def test_a_secret_is_a_name_that_does_not_exist(bench: Any, name: str) -> None:
    def message(asked: str) -> str:
        with pytest.raises(QueryError) as caught:
            parse_query(bench.resource("Person"), [(asked, "x")])
        [error] = caught.value.errors
        return f"{error['type']} {error['msg']}"

    absent = name.replace("password", "absent99").replace("api_key", "absent9")
    assert message(name) == message(absent).replace("absent99", "password").replace("absent9", "api_key")
    listed = message(name).split("there is:")[1]
    assert "password" not in listed
    assert "api_key" not in listed


def test_an_exposed_secret_can_be_asked_for(bench: Any, world: dict[str, list[Row]]) -> None:
    resource = resource_for(bench.models["Pet"], expose=["api_key"], registry=ResourceRegistry())
    query = parse_query(resource, [("api_key", "canary-pet"), ("id__lte", "2")])
    assert bench.select("sqlite", query, resource) == [(1,), (2,)]


def test_relations_of_plain_tables_come_from_foreign_keys(bench: Any, world: dict[str, list[Row]]) -> None:
    metadata = sa.MetaData()
    metadata.reflect(bench.engines["sqlite"])
    registry = ResourceRegistry()
    pet = resource_for(metadata.tables["pet"], registry=registry)
    owners = {row["id"] for row in world["person"] if row["city"] == "Rome"}
    query = parse_query(pet, [("owner.city", "Rome")])
    assert [key for (key,) in bench.select("sqlite", query, pet)] == [
        row["id"] for row in world["pet"] if row["owner_id"] in owners
    ]
    query = parse_query(pet, [("tag.label", "good")])
    assert [key for (key,) in bench.select("sqlite", query, pet)] == sorted(
        row["pet_id"] for row in world["link"] if row["tag_id"] == 1
    )


def person_holds(tree: dict[str, Any], row: Row, world: dict[str, list[Row]]) -> bool | None:
    """The oracle: three-valued for columns, two-valued for relations."""
    found: list[bool | None] = []
    for name, value in tree.items():
        if name == "or":
            values = [person_holds(item, row, world) for item in value]
            found.append(True if True in values else None if None in values else False)
        elif name == "not":
            inner = person_holds(value, row, world)
            found.append(None if inner is None else not inner)
        elif name in ("pets", "boss", "tags", "owner"):
            found.append(any(person_holds(value, item, world) is True for item in related(name, row, world)))
        else:
            column, _, operator = name.rpartition("__")
            stored = row[column]
            if operator == "isnull":
                found.append((stored is None) is value)
            else:
                found.append(None if stored is None else (stored == value) if operator == "eq" else stored > value)
    return False if False in found else None if None in found else True


def related(name: str, row: Row, world: dict[str, list[Row]]) -> list[Row]:
    if name == "pets":
        return [item for item in world["pet"] if item["owner_id"] == row["id"]]
    if name == "tags":
        mine = {item["tag_id"] for item in world["link"] if item["pet_id"] == row["id"]}
        return [item for item in world["tag"] if item["id"] in mine]
    key = row["boss_id"] if name == "boss" else row["owner_id"]
    return [item for item in world["person"] if item["id"] == key]


def trees(kind: str, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    columns: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "person": {
            "age__gt": st.sampled_from([10, 18]),
            "city__eq": st.sampled_from(["Rome", "Oslo"]),
            "name__eq": st.sampled_from(["Ann", "Bob"]),
            "name__isnull": st.booleans(),
        },
        "pet": {"name__eq": st.sampled_from(["Rex", "Tom"]), "weight__gt": st.sampled_from([0, 1])},
        "tag": {"label__eq": st.sampled_from(["good", "old"])},
    }
    leaf = st.one_of([st.fixed_dictionaries({name: values}) for name, values in columns[kind].items()])
    if depth == 0:
        return leaf
    ways = {"person": {"pets": "pet", "boss": "person"}, "pet": {"owner": "person", "tags": "tag"}, "tag": {}}
    options = [leaf, st.fixed_dictionaries({"not": trees(kind, depth - 1)})]
    options.append(st.fixed_dictionaries({"or": st.lists(trees(kind, depth - 1), min_size=1, max_size=2)}))
    for name, target in ways[kind].items():
        options.append(st.fixed_dictionaries({name: trees(target, depth - 1)}))
    return st.one_of(options)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(tree=trees("person", 3))
def test_a_random_tree_over_relations_finds_what_python_finds(
    bench: Any, world: dict[str, list[Row]], tree: dict[str, Any]
) -> None:
    expected = [row["id"] for row in world["person"] if person_holds(tree, row, world) is True]
    assert bench.find("Person", ("filter", json.dumps(tree))) == expected
