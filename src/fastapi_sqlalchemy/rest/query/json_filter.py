"""``filter=``: a tree of conditions in JSON, read with bounds on its length, depth and number of nodes.

An object is the conjunction of its members: a condition as in the query string (``{"age__lt": 18}``), ``and`` and
``or`` with arrays of objects, ``not`` with an object, ``q`` with a text, or a relation with an object that one related
row has to meet (``{"comments": {"flagged": true, "author": "x"}}``). ``null`` asks for NULL, an array for ``in``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, cast

from ..resource import Resource
from .budget import Budget
from .errors import Errors, InvalidValueError, listed, shown
from .kinds import is_searchable, operators_of
from .lists import LISTS, read_list
from .names import Target, UnknownNameError, resolve
from .settings import QuerySettings
from .tree import And, Comparison, Node, Not, Or, Search
from .values import Number, check_text, is_list, parse_json

__all__ = ["parse_filter"]

_MAX_SEARCH = 200
_Place = tuple[str | int, ...]


class _Duplicates(list[tuple[str, Any]]):
    """An object of JSON with a name that comes twice."""


def parse_filter(resource: Resource, text: str, settings: QuerySettings, budget: Budget) -> tuple[Node, ...]:
    """Return the conditions of a JSON filter. Raises :class:`QueryError` with all faults at once."""
    check_text(text, settings.max_filter_length)
    _check_depth(text, settings.max_depth)
    try:
        document = json.loads(
            text,
            parse_float=Number,
            parse_int=Number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError):
        raise InvalidValueError("must be valid JSON", "json_invalid") from None
    reader = _Reader(settings, budget)
    nodes = reader.members(resource, document, ("filter",), settings.max_relation_depth)
    reader.errors.raise_any()
    return tuple(nodes)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Duplicates(pairs)


def _check_depth(text: str, deepest: int) -> None:
    """Count brackets outside of strings before a parser that recurses sees them."""
    depth = 0
    inside = escaped = False
    for char in text:
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            if depth > deepest * 2 + 1:
                raise InvalidValueError(f"must not be nested deeper than {deepest} levels", "too_deep")
        elif char in "]}":
            depth -= 1


class _Reader:
    def __init__(self, settings: QuerySettings, budget: Budget) -> None:
        self.settings = settings
        self.budget = budget
        self.errors = Errors()
        self.nodes = 0
        self.depth = 0
        self.words: dict[str, Callable[[Resource, Any, _Place, int], Node | None]] = {
            "and": self._all,
            "or": self._any,
            "not": self._not,
            "q": self._search,
        }

    def members(self, resource: Resource, document: Any, place: _Place, hops: int) -> list[Node]:
        """Return the conditions of one object, which all have to hold."""
        if isinstance(document, _Duplicates):
            self.errors.add(place, "an object of filter has a name twice", "repeated")
            return []
        if not isinstance(document, dict):
            self.errors.add(place, 'filter takes objects such as {"age__lt": 18}', "type_error")
            return []
        members = cast("dict[str, Any]", document)
        self.depth += 1
        nodes: list[Node] = []
        if self.depth > self.settings.max_depth:
            self.errors.add(place, f"filter is nested deeper than {self.settings.max_depth} levels", "too_deep")
        else:
            for name, value in members.items():
                node = self._member(resource, name, value, place, hops)
                if node is not None:
                    nodes.append(node)
        self.depth -= 1
        return nodes

    def _member(self, resource: Resource, name: str, value: Any, place: _Place, hops: int) -> Node | None:
        here = (*place, name)
        self.nodes += 1
        if self.nodes > self.settings.max_nodes:
            if self.nodes == self.settings.max_nodes + 1:
                self.errors.add(place, f"filter has more than {self.settings.max_nodes} conditions", "too_many")
            return None
        word = self.words.get(name)
        if word is not None:
            return word(resource, value, here, hops)
        try:
            target = resolve(resource, name, hops)
            return self._condition(target, value, here, hops)
        except UnknownNameError as error:
            words = f", and {listed(self.words)}" if error.kind == "unknown_parameter" else ""
            self.errors.add(here, error.msg + words, error.kind)
        except InvalidValueError as error:
            self.errors.add(here, f"{shown(name)} {error.msg}", error.kind)
        return None

    def _condition(self, target: Target, value: Any, place: _Place, hops: int) -> Node | None:
        field, operator = target.field, target.operator
        self.budget.relations(len(target.relations))
        if field is None:
            return self._relation(target, value, place, hops)
        if value is None and operator in ("eq", "ne"):
            return target.wrap(Comparison(field, "isnull", operator == "eq"))
        if is_list(value) and operator == "eq" and "in" in _operators(target):
            operator = "in"
        if operator in LISTS:
            items = value if is_list(value) else [value]
            self.budget.values(len(items))
            found = read_list(field, operator, items, self.settings, parse_json)
            return target.wrap(Comparison(field, operator, found))
        return target.wrap(Comparison(field, operator, parse_json(field, operator, value)))

    def _relation(self, target: Target, value: Any, place: _Place, hops: int) -> Node | None:
        if target.operator == "isnull":
            if not isinstance(value, bool):
                raise InvalidValueError("must be true or false", "type_error")
            exists = target.wrap(None)
            return Not(exists) if value else exists
        if value is None:
            return Not(target.wrap(None))
        nodes = self.members(target.resource, value, place, hops - len(target.relations))
        return target.wrap(And(tuple(nodes)) if nodes else None)

    def _all(self, resource: Resource, value: Any, place: _Place, hops: int) -> Node | None:
        items = self._array(resource, value, place, hops)
        return And(items) if items else None

    def _any(self, resource: Resource, value: Any, place: _Place, hops: int) -> Node | None:
        items = self._array(resource, value, place, hops)
        return Or(items) if items else None

    def _array(self, resource: Resource, value: Any, place: _Place, hops: int) -> tuple[Node, ...]:
        if not is_list(value) or not value:
            self.errors.add(place, f"{place[-1]} takes an array of at least one object", "type_error")
            return ()
        items: list[Node] = []
        for number, item in enumerate(value):
            if item == {}:
                self.errors.add((*place, number), f"{place[-1]} takes objects that are not empty", "type_error")
                continue
            nodes = self.members(resource, item, (*place, number), hops)
            if nodes:
                items.append(nodes[0] if len(nodes) == 1 else And(tuple(nodes)))
        return tuple(items)

    def _not(self, resource: Resource, value: Any, place: _Place, hops: int) -> Node | None:
        if not isinstance(value, (dict, _Duplicates)) or not value:
            self.errors.add(place, "not takes an object that is not empty", "type_error")
            return None
        nodes = self.members(resource, value, place, hops)
        if not nodes:
            return None
        return Not(nodes[0] if len(nodes) == 1 else And(tuple(nodes)))

    def _search(self, resource: Resource, value: Any, place: _Place, hops: int) -> Node | None:
        del hops
        if not isinstance(value, str) or isinstance(value, Number):
            self.errors.add(place, "q must be a string", "type_error")
            return None
        try:
            check_text(value, _MAX_SEARCH)
        except InvalidValueError as error:
            self.errors.add(place, f"q {error.msg}", error.kind)
            return None
        if not any(is_searchable(field) for field in resource.fields.values()):
            self.errors.add(place, "q needs a column of text, and there is none", "unsupported")
            return None
        return Search(value) if value else And(())


def _operators(target: Target) -> tuple[str, ...]:
    return () if target.field is None else operators_of(target.field)
