"""Written conditions as nodes of the query tree: names become columns, texts become checked values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...web.problems import ProblemError
from ..fields import Field
from ..query.budget import Budget
from ..query.errors import InvalidValueError, listed, shown
from ..query.json_paths import text_within
from ..query.kinds import Kind, kind_of, operators_of
from ..query.operands import Family
from ..query.searches import SEARCHES, check_search, is_for
from ..query.settings import QuerySettings
from ..query.tree import And, Comparison, Node, Not, Or
from ..query.values import parse_text
from ..resource import Resource
from .conditions import Condition, Junction, Written
from .errors import failure, invalid_value, not_supported, unknown_column, unparsable

__all__ = ["NodeMaker", "within_json"]

_OPERATORS: Final = {
    "eq": "eq",
    "neq": "ne",
    "gt": "gt",
    "gte": "gte",
    "lt": "lt",
    "lte": "lte",
    "like": "like",
    "ilike": "ilike",
    "in": "in",
    "isdistinct": "ne",
}
"""The operators of the query tree by those of PostgREST."""


def within_json(field: Field, path: tuple[str, ...], family: Family, *, as_text: bool) -> Field:
    """Return the text within JSON that a filter or an order names, as a field. Raises a problem."""
    if kind_of(field) is not Kind.JSON:
        raise failure(400, "42883", f"The column {field.name} is not JSON: no path leads into it.")
    if not as_text:
        raise not_supported(
            "A value within JSON is compared and ordered as text.", hint="Write ->> before the last key."
        )
    return text_within(field, path, family)


@dataclass(frozen=True)
class NodeMaker:
    """Makes nodes of the conditions on one resource.

    ``embedded`` gives the node of related rows by the name of their embedding; ``settings`` and ``budget`` bound what
    one request may ask; ``family`` is that of the database.
    """

    resource: Resource
    table: str
    embedded: Mapping[str, Callable[[], Node]]
    settings: QuerySettings
    budget: Budget
    family: Family

    def node(self, written: Written) -> Node:
        """Return the node of a condition or of a tree of them. Raises a problem."""
        found = self._junction(written) if isinstance(written, Junction) else self._condition(written)
        return Not(found) if written.negated else found

    def _junction(self, written: Junction) -> Node:
        items = tuple(self.node(item) for item in written.items)
        return And(items) if written.word == "and" else Or(items)

    def _condition(self, written: Condition) -> Node:
        try:
            self.budget.values(1)
            field = self.resource.filterable.get(written.name)
            if field is None:
                return self._related(written)
            if written.path:
                field = within_json(field, written.path, self.family, as_text=written.as_text)
            if written.operator == "is":
                return self._is(field, written)
            return self._compared(field, written)
        except InvalidValueError as error:
            raise invalid_value(self.table, written.name, error) from None

    def _related(self, written: Condition) -> Node:
        """Whether there are related rows: the only thing that can be asked of an embedding."""
        find = self.embedded.get(written.name)
        if find is None:
            there = listed([*self.resource.filterable, *self.embedded])
            raise unknown_column(self.table, shown(written.name), there)
        if written.operator != "is" or written.value not in ("null", "not_null"):
            msg = f"An embedded resource can be compared with null alone: {shown(written.name)}=is.null or not.is.null"
            raise failure(400, "PGRST120", msg)
        found = find()
        return Not(found) if written.value == "null" else found

    def _is(self, field: Field, written: Condition) -> Node:
        word = str(written.value).lower()
        if word in ("null", "not_null"):
            return Comparison(field, "isnull", word == "null")
        if word not in ("true", "false", "unknown"):
            raise unparsable(written.name, "is takes null, not_null, true, false or unknown")
        if kind_of(field) is not Kind.BOOLEAN:
            raise failure(400, "42804", f"The column {self.table}.{field.name} is not true or false.")
        if word == "unknown":
            return Comparison(field, "isnull", True)
        # IS TRUE is false for NULL, where a comparison is unknown.
        return And((Comparison(field, "isnull", False), Comparison(field, "eq", word == "true")))

    def _compared(self, field: Field, written: Condition) -> Node:
        operator = _OPERATORS.get(written.operator)
        if operator is None:
            return self._searched(field, written)
        if operator not in operators_of(field):
            raise self._no_operator(field, written.operator)
        if isinstance(written.value, str):
            found: Node = Comparison(field, operator, self._value(field, operator, written.value))
            if written.operator == "isdistinct":
                return Or((Comparison(field, "isnull", True), found))
            return found
        self.budget.values(len(written.value))
        if len(written.value) > self.settings.max_values:
            msg = f"must have at most {self.settings.max_values} values, not {len(written.value)}"
            raise InvalidValueError(msg, "too_long")
        if written.is_list:
            if not written.value:
                return Or(())
            return Comparison(field, "in", self._values(field, "in", written.value))
        parts = tuple(Comparison(field, operator, value) for value in self._values(field, operator, written.value))
        return Or(parts) if written.quantifier == "any" else And(parts)

    def _searched(self, field: Field, written: Condition) -> Node:
        operator = written.operator
        there = [*_OPERATORS, "is", *(name for name, families in SEARCHES.items() if self.family in families)]
        if operator not in there:
            raise not_supported(f"The operator {operator} is not supported here.", hint=f"There is: {listed(there)}.")
        if not is_for(field, operator):
            raise self._no_operator(field, operator)
        texts = (written.value,) if isinstance(written.value, str) else written.value
        settings = () if written.argument is None else (check_search(written.argument),)
        self.budget.values(len(texts))
        parts = tuple(Comparison(field, operator, (*settings, check_search(text))) for text in texts)
        if written.quantifier is None:
            return parts[0]
        return Or(parts) if written.quantifier == "any" else And(parts)

    def _no_operator(self, field: Field, operator: str) -> ProblemError:
        return failure(404, "42883", f"The column {self.table}.{field.name} has no operator {operator} for its type.")

    def _values(self, field: Field, operator: str, texts: Sequence[str]) -> tuple[object, ...]:
        return tuple(self._value(field, operator, text) for text in texts)

    @staticmethod
    def _value(field: Field, operator: str, text: str) -> object:
        if operator in ("like", "ilike"):
            text = text.replace("*", "%")
        return parse_text(field, operator, text)
