"""Each operator finds the same rows on SQLite, PostgreSQL and MariaDB."""

# ruff: noqa: DTZ001  (the columns hold naive moments)

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

UID = uuid.UUID("00000000-0000-0000-0000-0000000000ff")
TEXTS = [
    "Apple",
    "apple",
    "APPLE pie",
    "äpfel",
    "ÄPFEL",
    "100%",
    "100 percent",
    "under_score",
    "back\\slash",
    "a,b",
    "",
    " x",
]
UTC = dt.UTC
ROWS: list[dict[str, Any]] = [
    *({"id": number, "text": text} for number, text in enumerate(TEXTS, 1)),
    {
        "id": 20,
        "small": -5,
        "big": 2**62,
        "ratio": 0.1,
        "single": 0.1,
        "price": Decimal("19.99"),
        "flag": True,
        "day": dt.date(2024, 2, 29),
        "clock": dt.time(13, 45),
        "at": dt.datetime(2024, 2, 29, 13, 45, 0, 250000),
        "instant": dt.datetime(2024, 2, 29, 12, 0, tzinfo=UTC),
        "span": dt.timedelta(days=1, hours=2),
        "uid": UID,
        "color": "DARK_BLUE",
        "size": "m",
        "data": b"\x00\xff\x10",
        "extra": {"a": 1},
        "note": "emoji 🎉 ünï",
    },
    {
        "id": 21,
        "small": 7,
        "big": -(2**62),
        "ratio": -1.5e300,
        "single": 2.5,
        "price": Decimal("0.10"),
        "flag": False,
        "day": dt.date(1970, 1, 1),
        "clock": dt.time(0, 0, 0, 1),
        "at": dt.datetime(2024, 3, 1),
        "instant": dt.datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
        "span": dt.timedelta(seconds=1),
        "uid": uuid.UUID(int=1),
        "color": "RED",
        "size": "l",
        "data": b"",
        "extra": None,
        "note": "x",
    },
]
ALL = [row["id"] for row in ROWS]


@pytest.fixture(scope="module", autouse=True)
def _rows(bench: Any) -> None:
    bench.empty()
    names = [column.name for column in bench.tables["thing"].columns if column.name != "extra"]
    rows = []
    for row in ROWS:
        full = dict.fromkeys(names) | {"extra": sa.null()} | row
        if full["color"]:
            full["color"] = bench.tables["thing"].c.color.type.enum_class[full["color"]]
        rows.append(full)
    for row in rows:
        bench.insert("thing", [row])


def ids(bench: Any, name: str, *values: str) -> list[int]:
    return bench.find("thing", *((name, value) for value in values))


CASES: list[tuple[str, str, list[int]]] = [
    ("text", "apple", [2]),
    ("text", "Apple ", []),
    ("text", "äpfel", [4]),
    ("text", "", [11]),
    ("text.eq", "apple", [2]),
    ("text__eq", "apple", [2]),
    ("text__ne", "apple", [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ("text__gt", "apple", [4, 5, 8, 9]),
    ("text__gte", "apple", [2, 4, 5, 8, 9]),
    ("text__lt", "A", [6, 7, 11, 12]),
    ("text__lte", "Apple", [1, 3, 6, 7, 11, 12]),
    ("text__between", "A,Z", [1, 3]),
    ("text__in", "apple,Apple", [1, 2]),
    ("text__in", "a\\,b,äpfel", [4, 10]),
    ("text__in", "back\\\\slash", [9]),
    ("text__not_in", "apple,Apple,ÄPFEL", [3, 4, 6, 7, 8, 9, 10, 11, 12]),
    ("text__like", "A%e", [1, 3]),
    ("text__like", "_pple", [1, 2]),
    ("text__like", "100\\%", [6]),
    ("text__like", "%\\\\%", [9]),
    ("text__like", "äpfel", [4]),
    ("text__ilike", "apple%", [1, 2, 3]),
    ("text__ilike", "ÄP_EL", [4, 5]),
    ("text__contains", "ppl", [1, 2]),
    ("text__contains", "%", [6]),
    ("text__contains", "_", [8]),
    ("text__contains", "\\", [9]),
    ("text__contains", "", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ("text__icontains", "PPL", [1, 2, 3]),
    ("text__icontains", "äPF", [4, 5]),
    ("text__startswith", "App", [1]),
    ("text__startswith", "Ä", [5]),
    ("text__startswith", "100%", [6]),
    ("text__endswith", "le", [1, 2]),
    ("text__endswith", " x", [12]),
    ("text__isnull", "true", [20, 21]),
    ("text__isnull", "0", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ("note__contains", "🎉", [20]),
    ("note__icontains", "ÜNÏ", [20]),
    ("note__like", "emoji _ ___", [20]),
    ("small", "-5", [20]),
    ("small__ne", "-5", [21]),
    ("small__gt", "-5", [21]),
    ("small__gte", "-5", [20, 21]),
    ("small__lt", "7", [20]),
    ("small__lte", "7", [20, 21]),
    ("small__between", "-5,0", [20]),
    ("small__between", "5,-5", []),
    ("small__in", "7,8,9", [21]),
    ("small__not_in", "7", [20]),
    ("big", str(2**62), [20]),
    ("big__lt", "0", [21]),
    ("ratio", "0.1", [20]),
    ("ratio__lt", "-1e300", [21]),
    ("ratio", "-1.5e300", [21]),
    ("single", "0.1", [20]),
    ("single__gt", "0.1", [21]),
    ("single__in", "0.1,2.5", [20, 21]),
    ("price", "19.99", [20]),
    ("price", "19.990", [20]),
    ("price__gt", "19.985", [20]),
    ("price__lt", "0.1000001", [21]),
    ("price__between", "0.1,19.99", [20, 21]),
    ("flag", "true", [20]),
    ("flag", "0", [21]),
    ("flag__ne", "TRUE", [21]),
    ("flag__in", "true,false", [20, 21]),
    ("day", "2024-02-29", [20]),
    ("day__lt", "1970-01-02", [21]),
    ("clock", "13:45", [20]),
    ("clock__lte", "00:00:00.000001", [21]),
    ("at", "2024-02-29T13:45:00.25", [20]),
    ("at", "2024-02-29 13:45:00.250000", [20]),
    ("at", "2024-03-01", [21]),
    ("at__gte", "2024-03-01", [21]),
    ("at__gt", "2024-03-01", []),
    ("at__lte", "2024-03-01T00:00:00", [20, 21]),
    ("at__lt", "2024-03-01T01:00:00+01:00", [20]),
    ("at__ne", "2024-03-01", [20]),
    ("at__in", "2024-03-01,2024-02-29T13:45:00.25", [20, 21]),
    ("at__not_in", "2024-03-01", [20]),
    ("instant", "2024-02-29T12:00:00Z", [20]),
    ("instant", "2024-02-29T13:00:00+01:00", [20]),
    ("instant", "2024-02-29T13:00:00 01:00", [20]),
    ("instant__lt", "2000-01-01T00:00:00Z", [21]),
    ("span", "P1DT2H", [20]),
    ("span", "PT26H", [20]),
    ("span__lt", "PT2S", [21]),
    ("uid", str(UID), [20]),
    ("uid", UID.hex.upper(), [20]),
    ("uid__ne", str(UID), [21]),
    ("color", "dark blue", [20]),
    ("color__ne", "dark blue", [21]),
    ("color__in", "red,dark blue", [20, 21]),
    ("size", "l", [21]),
    ("size__not_in", "l", [20]),
    ("data", "AP8Q", [20]),
    ("data", "", [21]),
    ("data__ne", "AP8Q", [21]),
    ("extra__isnull", "false", [20]),
    ("extra__isnull", "true", [*range(1, 13), 21]),
    ("q", "PIE", [3]),
    ("q", "EMOJI", [20]),
    ("q", "", ALL),
]


@pytest.mark.parametrize("column", sorted({name.split("__")[0].split(".")[0] for name, _, _ in CASES}))
def test_every_operator_of_a_column_finds_its_rows(bench: Any, column: str) -> None:
    for name, value, expected in CASES:
        if name.split("__")[0].split(".")[0] == column:
            assert ids(bench, name, value) == expected, (name, value)


def test_a_list_may_be_repeated(bench: Any) -> None:
    assert ids(bench, "small__in", "7", "-5") == [20, 21]
    assert ids(bench, "small__between", "-5", "7") == [20, 21]


def test_filters_are_joined_by_and(bench: Any) -> None:
    assert bench.find("thing", ("text__icontains", "apple"), ("text__endswith", "e"), ("id__lt", "3")) == [1, 2]


TREES: list[tuple[Any, list[int]]] = [
    ({}, ALL),
    ({"id": 1}, [1]),
    ({"id": [1, 2]}, [1, 2]),
    ({"id__in": [1, "2"]}, [1, 2]),
    ({"id__between": [1, 2]}, [1, 2]),
    ({"text": None}, [20, 21]),
    ({"small__ne": None}, [20, 21]),
    ({"flag": True}, [20]),
    ({"ratio": 0.1}, [20]),
    ({"price": 19.99}, [20]),
    ({"price": "19.99"}, [20]),
    ({"or": [{"id": 1}, {"small": 7}]}, [1, 21]),
    ({"and": [{"id__gt": 1}, {"id__lt": 4, "text__contains": "a"}]}, [2]),
    ({"not": {"id__gt": 2}}, [1, 2]),
    ({"not": {"small__gt": 0}}, [20]),
    ({"not": {"not": {"small__gt": 0}}}, [21]),
    ({"or": [{"not": {"small__gt": 0}}, {"small__isnull": True, "id__lt": 2}]}, [1, 20]),
    ({"not": {"text__in": ["apple"], "id__lt": 3}}, [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 21]),
    ({"not": {"text__icontains": "a"}}, [4, 5, 6, 7, 8, 11, 12]),
    ({"q": "pie"}, [3]),
    ({"or": [{"q": "pie"}, {"q": "emoji"}]}, [3, 20]),
    ({"size": "m"}, [20]),
    ({"extra": None}, [*range(1, 13), 21]),
]


def test_a_tree_of_conditions_finds_its_rows(bench: Any) -> None:
    for tree, expected in TREES:
        assert bench.find("thing", ("filter", json.dumps(tree))) == expected, tree


def test_every_value_is_a_bound_parameter(bench: Any) -> None:
    canary = "'; DROP TABLE thing; --%_"
    texts: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        texts.append(statement)

    for engine in bench.engines.values():
        sa.event.listen(engine, "before_cursor_execute", note)
    try:
        for operator in ("eq", "ne", "gt", "in", "not_in", "like", "ilike", "contains", "startswith", "endswith"):
            bench.find("thing", (f"text__{operator}", canary))
        bench.find("thing", ("q", canary), ("small", "31313"), ("filter", json.dumps({"id": 31313})))
    finally:
        for engine in bench.engines.values():
            sa.event.remove(engine, "before_cursor_execute", note)
    assert texts
    assert not [text for text in texts if "DROP" in text or "31313" in text]
