"""Random trees of filters over random rows: three databases answer as a few lines of Python do.

The oracle knows SQL's three values: a comparison with NULL is unknown (None), and unknown is no match.
"""

# ruff: noqa: DTZ001  (the columns hold naive moments)

from __future__ import annotations

import datetime as dt
import json
import random
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SEED = 20261103
ALPHABET = "aAbBéÉßñ _%\\,'\"*?[]^-zZ0🎉Жж"
EXAMPLES = 120
Row = dict[str, Any]
Truth = bool | None


def texts(most: int) -> st.SearchStrategy[str]:
    return st.text(ALPHABET, max_size=most)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": texts(3),
    "small": st.integers(-3, 3) | st.sampled_from([-32768, 32767]),
    "big": st.integers(-2, 2) | st.sampled_from([-(2**63), 2**63 - 1]),
    "ratio": st.sampled_from([-1.5, 0.0, 0.1, 2.5, 1e300, -1e-300]),
    "price": st.sampled_from([Decimal("-1.50"), Decimal(0), Decimal("0.10"), Decimal("99999999.99")]),
    "flag": st.booleans(),
    "day": st.dates(dt.date(1999, 12, 30), dt.date(2000, 1, 3)),
    "at": st.sampled_from(
        [dt.datetime(2000, 1, 1), dt.datetime(2000, 1, 1, 0, 0, 0, 1), dt.datetime(1999, 12, 31, 23, 59, 59, 999999)]
    ),
}
COLUMNS = tuple(VALUES)
ORDERED = tuple(name for name in COLUMNS if name != "flag")


def stored_rows(number: int, seed: int) -> list[Row]:
    """Rows of values that come from the same small sets as those of the filters."""
    chance = random.Random(seed)
    sets: dict[str, list[Any]] = {
        "text": [
            "",
            "a",
            "A",
            "é",
            "É",
            "ab",
            "aB",
            "a b",
            " a",
            "a ",
            "%",
            "a_b",
            "\\",
            "ß",
            "*",
            "[a]",
            "🎉",
            "Жж",
            "b,",
        ],
        "small": [-32768, -3, -1, 0, 1, 3, 32767],
        "big": [-(2**63), -2, 0, 2, 2**63 - 1],
        "ratio": [-1.5, 0.0, 0.1, 2.5, 1e300, -1e-300],
        "price": [Decimal("-1.50"), Decimal("0.00"), Decimal("0.10"), Decimal("99999999.99")],
        "flag": [True, False],
        "day": [dt.date(1999, 12, 30), dt.date(2000, 1, 1), dt.date(2000, 1, 3)],
        "at": [
            dt.datetime(2000, 1, 1),
            dt.datetime(2000, 1, 1, 0, 0, 0, 1),
            dt.datetime(1999, 12, 31, 23, 59, 59, 999999),
        ],
    }
    return [
        {"id": key, **{name: None if chance.random() < 0.2 else chance.choice(sets[name]) for name in COLUMNS}}
        for key in range(1, number + 1)
    ]


def as_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, Any]:
    column = draw(st.sampled_from(COLUMNS))
    operators = ["eq", "ne", "in", "not_in", "isnull"]
    if column in ORDERED:
        operators += ["gt", "gte", "lt", "lte", "between"]
    if column == "text":
        operators += ["like", "ilike", "contains", "icontains", "startswith", "endswith"]
    operator = draw(st.sampled_from(operators))
    value: Any
    if operator == "isnull":
        value = draw(st.booleans())
    elif operator in ("in", "not_in"):
        value = draw(st.lists(VALUES[column], min_size=1, max_size=3))
    elif operator == "between":
        value = [draw(VALUES[column]), draw(VALUES[column])]
    elif operator in ("like", "ilike"):
        value = draw(texts(4).filter(lambda text: not re.search(r"(?<!\\)(?:\\\\)*\\$", text)))
    else:
        value = draw(VALUES[column])
    return f"{column}__{operator}", value


def branch(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(children, min_size=1, max_size=3)
    return (
        st.fixed_dictionaries({"or": several})
        | st.fixed_dictionaries({"and": several})
        | st.fixed_dictionaries({"not": children})
    )


TREES = st.recursive(
    st.lists(conditions(), min_size=1, max_size=2).map(dict),
    branch,
    max_leaves=6,
)


def both(values: list[Truth]) -> Truth:
    return False if False in values else None if None in values else True


def either(values: list[Truth]) -> Truth:
    return True if True in values else None if None in values else False


def opposite(value: Truth) -> Truth:
    return None if value is None else not value


def holds(tree: dict[str, Any], row: Row) -> Truth:
    found: list[Truth] = []
    for name, value in tree.items():
        if name == "or":
            found.append(either([holds(item, row) for item in value]))
        elif name == "and":
            found.append(both([holds(item, row) for item in value]))
        elif name == "not":
            found.append(opposite(holds(value, row)))
        else:
            column, _, operator = name.rpartition("__")
            found.append(compares(operator, row[column], value))
    return both(found)


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda stored, value: stored == value,
    "ne": lambda stored, value: stored != value,
    "gt": lambda stored, value: stored > value,
    "gte": lambda stored, value: stored >= value,
    "lt": lambda stored, value: stored < value,
    "lte": lambda stored, value: stored <= value,
    "in": lambda stored, value: stored in value,
    "not_in": lambda stored, value: stored not in value,
    "between": lambda stored, value: value[0] <= stored <= value[1],
    "like": lambda stored, value: like(value).fullmatch(stored) is not None,
    "ilike": lambda stored, value: like(value.lower()).fullmatch(stored.lower()) is not None,
    "contains": lambda stored, value: value in stored,
    "icontains": lambda stored, value: value.lower() in stored.lower(),
    "startswith": lambda stored, value: stored.startswith(value),
    "endswith": lambda stored, value: stored.endswith(value),
}


def compares(operator: str, stored: Any, value: Any) -> Truth:
    if operator == "isnull":
        return (stored is None) is value
    return None if stored is None else COMPARE[operator](stored, value)


def like(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    characters = iter(pattern)
    for char in characters:
        if char == "\\":
            parts.append(re.escape(next(characters)))
        else:
            parts.append({"%": ".*", "_": "."}.get(char, re.escape(char)))
    return re.compile("".join(parts), re.DOTALL)


@pytest.fixture(scope="module")
def rows(bench: Any) -> list[Row]:
    bench.empty()
    found = stored_rows(80, SEED)
    bench.insert("thing", found)
    return found


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(tree=TREES)
def test_a_random_tree_finds_what_python_finds(bench: Any, rows: list[Row], tree: dict[str, Any]) -> None:
    expected = [row["id"] for row in rows if holds(tree, row) is True]
    assert bench.find("thing", ("filter", json.dumps(tree, default=as_json))) == expected


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(chosen=st.lists(conditions(), min_size=1, max_size=3, unique_by=lambda item: item[0]))
def test_a_random_query_string_finds_what_python_finds(
    bench: Any, rows: list[Row], chosen: list[tuple[str, Any]]
) -> None:
    params: list[tuple[str, str]] = []
    for name, value in chosen:
        for item in value if isinstance(value, list) else [value]:
            text = str(as_json(item)).lower() if isinstance(item, bool) else str(as_json(item))
            if isinstance(value, list):
                text = text.replace("\\", "\\\\").replace(",", "\\,")
            params.append((name, text))
    expected = [row["id"] for row in rows if holds(dict(chosen), row) is True]
    assert bench.find("thing", *params) == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    keys=st.lists(
        st.tuples(
            st.sampled_from(["small", "price", "day", "at", "flag"]),
            st.booleans(),
            st.sampled_from(["", "first", "last"]),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda item: item[0],
    )
)
def test_a_random_sort_orders_as_python_does(bench: Any, rows: list[Row], keys: list[tuple[str, bool, str]]) -> None:
    expected = sorted(rows, key=lambda row: -row["id"] if keys[-1][1] else row["id"])
    for column, descending, nulls in reversed(keys):
        empty = [row for row in expected if row[column] is None]
        full = [row for row in expected if row[column] is not None]
        full.sort(key=lambda row, name=column: row[name], reverse=descending)
        expected = empty + full if nulls == "first" else full + empty
    sort = ",".join(f"{'-' if down else ''}{name}{'.nulls' + nulls if nulls else ''}" for name, down, nulls in keys)
    assert bench.find("thing", ("sort", sort)) == [row["id"] for row in expected]
