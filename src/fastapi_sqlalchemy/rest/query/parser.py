"""The query string of a list, read whole: every fault is found before anything is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ..fields import Field
from ..resource import Resource
from .budget import Budget
from .cursor import decode_cursor, total_order
from .errors import Errors, InvalidValueError, QueryError, listed, shown
from .json_filter import parse_filter
from .kinds import is_searchable, is_sortable
from .lists import LISTS, read_list
from .names import RESERVED, Target, UnknownNameError, allowed_names, resolve
from .settings import DEFAULTS, CountMode, QuerySettings
from .tree import Comparison, Cursor, IncludeTree, ListQuery, Node, Not, SortKey
from .values import check_text, parse_flag, parse_text, split_list

__all__ = ["parse_query"]

_COUNTS: tuple[CountMode, ...] = ("exact", "estimated", "none")
_MAX_SEARCH = 200

_Item = TypeVar("_Item")


def parse_query(
    resource: Resource,
    params: Iterable[tuple[str, str]],
    settings: QuerySettings = DEFAULTS,
    *,
    reserved: Sequence[str] = RESERVED,
    ignore: Iterable[str] = (),
) -> ListQuery:
    """Return what a query string asks for, every value checked and converted.

    ``params`` are its decoded (name, value) pairs in order. ``reserved`` are the parameters beside filters that the
    route takes (a bulk route takes ``q`` and ``filter`` alone); ``ignore`` names those that the route reads itself.
    Raises :class:`QueryError` with all faults at once.
    """
    return _Reader(resource, settings, tuple(reserved), frozenset(ignore)).read(list(params))


class _Reader:
    def __init__(
        self, resource: Resource, settings: QuerySettings, reserved: tuple[str, ...], ignore: frozenset[str]
    ) -> None:
        self.resource = resource
        self.settings = settings
        self.reserved = reserved
        self.ignore = ignore
        self.errors = Errors()
        self.budget = Budget(settings)
        self.given: dict[str, list[str]] = {}

    def read(self, params: list[tuple[str, str]]) -> ListQuery:
        if len(params) > max(self.settings.max_parameters, self.settings.max_values):
            raise QueryError.of("", f"there are more than {self.settings.max_parameters} parameters", "too_many")
        for name, value in params:
            if name not in self.ignore:
                self.given.setdefault(name, []).append(value)
        filters = self._filters()
        search = self._single("q", self._search, None)
        nothing: tuple[Node, ...] = ()
        unsorted: tuple[SortKey, ...] = ()
        tree = self._single("filter", self._tree, nothing)
        sort = self._single("sort", self._sort, unsorted)
        query = ListQuery(
            filters=(*filters, *tree),
            search=search,
            sort=sort,
            limit=self._single("limit", self._limit, self.settings.page_size),
            offset=self._single("offset", self._offset, None),
            cursor=self._single("cursor", lambda text: self._cursor(text, sort), None),
            fields=self._single("fields", self._fields, None),
            include=self._single("include", self._include, {}),
            count=self._single("count", self._count, self.settings.count),
        )
        if query.offset is not None and any(self.given.get("cursor", ())) and "cursor" in self.reserved:
            self.errors.add(("cursor",), "cursor and offset cannot be used together", "contradiction")
        self.errors.raise_any()
        return query

    def _single(self, name: str, read: Callable[[str], _Item], default: _Item) -> _Item:
        """Read a reserved parameter, which may be given once."""
        values = self.given.get(name)
        if values is None or name not in self.reserved:
            return default
        if len(values) > 1:
            self.errors.add((name,), f"{name} was given {len(values)} times; give it once", "repeated")
            return default
        try:
            check_text(values[0], self.settings.max_filter_length)
            return read(values[0])
        except InvalidValueError as error:
            self.errors.add((name,), f"{name} {error.msg}", error.kind)
        except QueryError as error:
            self.errors.items.extend(error.errors)
        return default

    def _filters(self) -> list[Node]:
        nodes: list[Node] = []
        seen: dict[tuple[Any, ...], str] = {}
        names = [name for name in self.given if name not in self.reserved]
        if len(names) > self.settings.max_filters:
            self.errors.add((), f"there are more than {self.settings.max_filters} filters", "too_many")
            return nodes
        for name in names:
            try:
                target = resolve(self.resource, name, self.settings.max_relation_depth)
                key = (*map(id, target.relations), id(target.field), target.operator)
                if key in seen:
                    msg = f"{shown(name)} says the same as {shown(seen[key])}; give one of them"
                    raise InvalidValueError(msg, "repeated")
                seen[key] = name
                nodes.append(self._filter(name, target, self.given[name]))
            except UnknownNameError as error:
                msg = error.msg
                if error.kind == "unknown_parameter":
                    there = allowed_names(self.resource, reserved=self.reserved)
                    msg = f"unknown parameter {shown(name)}; there is: {there}"
                self.errors.add((name,), msg, error.kind)
            except InvalidValueError as error:
                msg = error.msg if error.kind == "repeated" else f"{shown(name)} {error.msg}"
                self.errors.add((name,), msg, error.kind)
        return nodes

    def _filter(self, name: str, target: Target, values: list[str]) -> Node:
        field, operator = target.field, target.operator
        self.budget.relations(len(target.relations))
        if field is None:
            if operator != "isnull":
                columns = listed(target.resource.filterable)
                msg = f"is a relation; name one of its columns ({columns}) or ask {shown(name)}__isnull"
                raise InvalidValueError(msg, "relation")
            self._once(name, values)
            exists = target.wrap(None)
            return Not(exists) if parse_flag(values[0]) else exists
        if operator in LISTS:
            if sum(map(len, values)) > self.settings.max_filter_length * 8:
                raise InvalidValueError("is too long", "string_too_long")
            texts = [text for value in values for text in split_list(value)]
            self.budget.values(len(texts))
            found = read_list(field, operator, texts, self.settings, parse_text)
            return target.wrap(Comparison(field, operator, found))
        self._once(name, values)
        return target.wrap(Comparison(field, operator, parse_text(field, operator, values[0])))

    @staticmethod
    def _once(name: str, values: list[str]) -> None:
        if len(values) > 1:
            msg = f"{shown(name)} was given {len(values)} times; give it once, or several values with __in"
            raise InvalidValueError(msg, "repeated")

    def _search(self, text: str) -> str | None:
        if not any(is_searchable(field) for field in self.resource.fields.values()):
            raise InvalidValueError("needs a column of text, and there is none", "unsupported")
        check_text(text, _MAX_SEARCH)
        return text or None

    def _tree(self, text: str) -> tuple[Node, ...]:
        return parse_filter(self.resource, text, self.settings, self.budget)

    def _limit(self, text: str) -> int:
        return _bounded(text, 1, self.settings.max_page_size)

    def _offset(self, text: str) -> int:
        return _bounded(text, 0, self.settings.max_offset)

    def _cursor(self, text: str, sort: tuple[SortKey, ...]) -> Cursor:
        order = total_order(self.resource, sort)
        if not order:
            raise InvalidValueError("needs a column that can be sorted, and there is none; use offset", "unsupported")
        return decode_cursor(text, self.resource, order, self.settings.cursor_key)

    def _count(self, text: str) -> CountMode:
        for mode in _COUNTS:
            if text == mode:
                return mode
        raise InvalidValueError(f"must be one of {listed(_COUNTS)}, not {shown(text)}", "enum")

    def _fields(self, text: str) -> tuple[Field, ...]:
        found: dict[str, Field] = {}
        for name in split_list(text):
            field = self.resource.readable.get(name) or self.resource.readable.get(name.strip())
            if field is None:
                msg = f"unknown field {shown(name)} in fields; there is: {listed(self.resource.readable)}"
                self.errors.add(("fields",), msg, "unknown_field")
            else:
                found[field.name] = field
        return tuple(found.values())

    def _sort(self, text: str) -> tuple[SortKey, ...]:
        keys: dict[str, SortKey] = {}
        for item in split_list(text):
            key = self._sort_key(item)
            if key is None:
                columns = [field.name for field in self.resource.fields.values() if is_sortable(field)]
                msg = (
                    f"unknown column {shown(item)} in sort; there is: {listed(columns)}, each with an optional - "
                    "before it and .nullsfirst or .nullslast after it"
                )
                self.errors.add(("sort",), msg, "unknown_sort")
            else:
                keys.setdefault(key.field.name, key)
        if len(keys) > self.settings.max_sort:
            raise InvalidValueError(f"must have at most {self.settings.max_sort} columns", "too_many")
        return tuple(keys.values())

    def _sort_key(self, item: str) -> SortKey | None:
        for text in (item, item.strip()):
            for descending, name in ((False, text), (True, text[1:]), (False, text[1:])):
                if len(name) < len(text) and text[0] != ("-" if descending else "+"):
                    continue
                for suffix, nulls_last in (("", True), (".nullslast", True), (".nullsfirst", False)):
                    if not name.endswith(suffix):
                        continue
                    field = self.resource.fields.get(name.removesuffix(suffix))
                    if field is not None and is_sortable(field):
                        return SortKey(field, descending, nulls_last)
        return None

    def _include(self, text: str) -> IncludeTree:
        tree: dict[str, Any] = {}
        total = 0
        for path in split_list(text):
            level, resource, depth = tree, self.resource, 0
            rest = path.strip()
            while rest:
                name = next((name for name in _heads(rest) if name in resource.relations), None)
                if name is None:
                    msg = f"unknown relation {shown(rest)} in include; there is: {listed(resource.relations)}"
                    self.errors.add(("include",), msg, "unknown_relation")
                    break
                depth += 1
                if depth > self.settings.max_include_depth:
                    msg = f"{shown(path)} in include is deeper than {self.settings.max_include_depth} relations"
                    self.errors.add(("include",), msg, "too_deep")
                    break
                total += name not in level
                level = level.setdefault(name, {})
                resource = resource.relations[name].target
                rest = rest[len(name) + 1 :]
            if not path.strip():
                msg = f"an empty name in include; there is: {listed(self.resource.relations)}"
                self.errors.add(("include",), msg, "unknown_relation")
        if total > self.settings.max_includes:
            raise InvalidValueError(f"must have at most {self.settings.max_includes} relations", "too_many")
        return tree


def _heads(path: str) -> list[str]:
    cuts = [index for index, char in enumerate(path) if char == "."][:16]
    return [path, *(path[:index] for index in reversed(cuts))]


def _bounded(text: str, low: int, high: int) -> int:
    if len(text) > 20 or not (text.isascii() and text.removeprefix("-").isdigit()):
        raise InvalidValueError("must be an integer", "int_parsing")
    value = int(text)
    if not low <= value <= high:
        raise InvalidValueError(f"must be between {low} and {high}", "out_of_range")
    return value
