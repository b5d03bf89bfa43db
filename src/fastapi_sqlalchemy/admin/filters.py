"""Filters of a list: made for each column by its kind, read by the query grammar of the REST layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette_admin.filters import BaseFilter, FilterGroup, FilterRule
from starlette_admin.filters.base import FilterApplyContext, FilterDataType, FilterValidationError

from ..rest.fields import Field
from ..rest.keys import MalformedKeyError, unescape
from ..rest.narrowing import is_items
from ..rest.query.errors import InvalidValueError
from ..rest.query.kinds import Kind, kind_of
from ..rest.query.tree import And, Comparison, Node, Or, Related
from ..rest.query.values import parse_text
from .rows import Linked

__all__ = ["ColumnFilter", "Condition", "column_filters", "link_filters", "nodes_of"]

MAX_CONDITIONS = 50
_MAX_CHOICES = 200

_TEXT = ("icontains", "eq", "ne", "startswith", "endswith")
_RANGE = ("eq", "ne", "gt", "gte", "lt", "lte", "between")
_OPERATORS: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT: _TEXT,
    Kind.OPAQUE: _TEXT,
    **dict.fromkeys((Kind.INTEGER, Kind.FLOAT, Kind.DECIMAL, Kind.DATE, Kind.DATETIME), _RANGE),
    **dict.fromkeys((Kind.TIME, Kind.INTERVAL), _RANGE),
    Kind.BOOLEAN: ("true", "false"),
    Kind.UUID: ("eq", "ne"),
    Kind.ENUM: ("in",),
}
_LABELS = {
    "icontains": "contains",
    "eq": "equals",
    "ne": "does not equal",
    "startswith": "starts with",
    "endswith": "ends with",
    "gt": "is more than",
    "gte": "is at least",
    "lt": "is less than",
    "lte": "is at most",
    "between": "is between",
    "in": "is one of",
    "true": "is true",
    "false": "is false",
    "empty": "is empty",
    "present": "is not empty",
    "is": "is (key)",
}
_INPUTS = {
    Kind.INTEGER: FilterDataType.NUMBER,
    Kind.DATE: FilterDataType.DATE,
    Kind.TIME: FilterDataType.TIME,
}
_VALUELESS = ("true", "false", "empty", "present")


class Condition:
    """The value of a filter, checked: a node of the query grammar."""

    def __init__(self, node: Node) -> None:
        self.node = node


class ColumnFilter(BaseFilter):
    """One operator on one column; a class of its own for each, since starlette-admin asks classes."""

    item: Field
    linked: Linked | None = None

    def parse_value(self, raw: Any) -> Any:
        """Return the value, or both of ``between``, as the query grammar reads them."""
        values = [_unquoted(str(part)) for part in raw] if is_items(raw) else [str(raw)]
        try:
            return [self._read(value) for value in values]
        except (InvalidValueError, MalformedKeyError) as error:
            raise FilterValidationError(f"{self.item.name}: {error}") from None

    def get_choices(self, request: Request) -> Sequence[tuple[Any, str]] | None:
        """Return what a column of choices can hold."""
        if self.name != "in" or self.item.choices is None:
            return None
        return [(str(choice), str(choice)) for choice in self.item.choices[:_MAX_CHOICES]]

    def apply(self, ctx: FilterApplyContext) -> Any:
        """Not used: the whole tree becomes criteria at once."""
        return ctx.query

    def node(self, value: Any, value2: Any) -> Node:
        """Return the condition."""
        if self.linked is not None:
            return self._linked_node(self.linked, value)
        if self.name in ("true", "false"):
            return Comparison(self.item, "eq", self.name == "true")
        if self.name in ("empty", "present"):
            return Comparison(self.item, "isnull", self.name == "empty")
        if self.name == "between":
            return Comparison(self.item, "between", (value[0], value2[0]))
        if self.name == "in":
            return Comparison(self.item, "in", tuple(value))
        return Comparison(self.item, self.name, value[0])

    def _read(self, text: str) -> Any:
        if self.linked is not None and self.name == "is":
            return parse_text(self.item, "eq", unescape(text))
        if self.linked is not None:
            return [parse_text(label, "icontains", text) for label in self.linked.labels]
        return parse_text(self.item, "eq" if self.name in ("between", "in") else self.name, text)

    def _linked_node(self, linked: Linked, value: Any) -> Node:
        if self.name in ("empty", "present"):
            return Comparison(self.item, "isnull", self.name == "empty")
        if self.name == "is":
            return Comparison(self.item, "eq", value[0])
        patterns = zip(linked.labels, value[0], strict=True)
        return Related(linked.relation, Or(tuple(Comparison(label, "icontains", one) for label, one in patterns)))


def column_filters(item: Field) -> list[type[BaseFilter]]:
    """Return the filters of a column."""
    operators = list(_OPERATORS.get(kind_of(item), ()))
    if item.nullable:
        operators += ["empty", "present"]
    return [_filter(item, operator) for operator in operators] if item.filterable else []


def link_filters(linked: Linked) -> list[type[BaseFilter]]:
    """Return the filters of a relation to one row: by its label, by its key, by whether there is one."""
    item = linked.fields[0]
    operators = ["icontains"] if all(label.filterable for label in linked.labels) and linked.labels else []
    if len(linked.fields) == 1:
        operators.append("is")
    if item.nullable:
        operators += ["empty", "present"]
    return [_filter(item, operator, linked) for operator in operators] if item.filterable else []


def nodes_of(group: FilterGroup | None, filters: dict[str, Sequence[type[BaseFilter]]]) -> list[Node]:
    """Return the conditions of a tree of filters, by the filters of each field; raises `FilterValidationError`."""
    if group is None or group.is_empty():
        return []
    return [_node(group, filters, [0])]


def _node(given: FilterGroup | FilterRule, filters: dict[str, Sequence[type[BaseFilter]]], counted: list[int]) -> Node:
    counted[0] += 1
    if counted[0] > MAX_CONDITIONS:
        raise FilterValidationError(f"A filter has at most {MAX_CONDITIONS} conditions.")
    if isinstance(given, FilterGroup):
        nodes = tuple(_node(rule, filters, counted) for rule in given.rules)
        if not nodes:
            return And(())
        return Or(nodes) if given.logic == "or" else And(nodes)
    for kind in filters.get(given.field, ()):
        if kind.name == given.filter and issubclass(kind, ColumnFilter):
            return kind().node(given.value, given.value2)
    raise FilterValidationError(f"There is no filter {given.filter} on {given.field}.")


def _filter(item: Field, operator: str, linked: Linked | None = None) -> type[BaseFilter]:
    data_type = _INPUTS.get(kind_of(item), FilterDataType.STRING) if linked is None else FilterDataType.STRING
    if operator in _VALUELESS:
        data_type = FilterDataType.NONE
    elif operator == "in":
        data_type = FilterDataType.ENUM
    elif kind_of(item) is Kind.DATETIME and not item.timezone:
        data_type = FilterDataType.DATETIME
    return type(
        "ColumnFilter",
        (ColumnFilter,),
        {
            "name": operator,
            "label": _LABELS[operator],
            "data_type": data_type,
            "has_value2": operator == "between",
            "item": item,
            "linked": linked,
        },
    )


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return text
