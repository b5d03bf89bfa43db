"""The parameters of a request: read whole and checked, names resolved, within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from ..fields import Field
from ..query.budget import Budget
from ..query.errors import InvalidValueError, listed, shown
from ..query.kinds import is_sortable
from ..query.operands import Family
from ..query.settings import QuerySettings
from ..query.tree import Node, SortKey
from ..resource import Resource
from ..selection import reached_by
from .casts import shown_as
from .conditions import Written, parse_condition, parse_tree
from .errors import failure, invalid_value, not_supported, unknown_column, unparsable
from .nodes import NodeMaker, within_json
from .pages import read_rows
from .plan import Embedding, Level, Plan
from .relationships import find_relation
from .scanner import MalformedError, Scanner
from .select import Column, Embedded, Item, Star, parse_path, parse_select
from .tables import Names

__all__ = ["read_plan"]

_OWN: Final = ("select", "columns", "on_conflict")
_PAGES: Final = 100
"""The pages that all rows of an answer may fill, embedded ones counted as often as they are in it."""
_PAGE: Final = ("order", "limit", "offset")


def read_plan(
    resource: Resource, names: Names, pairs: Iterable[tuple[str, str]], settings: QuerySettings, family: Family
) -> Plan:
    """Return what the parameters of a request ask for; ``family`` is that of the database.

    Raises a problem for the first fault.
    """
    return _Reader(names, settings, family).read(resource, list(pairs))


class _Reader:
    def __init__(self, names: Names, settings: QuerySettings, family: Family) -> None:
        self.names = names
        self.family: Family = family
        self.settings = settings
        self.budget = Budget(settings)
        self.embeddings = 0
        self.conditions = 0

    def read(self, resource: Resource, pairs: list[tuple[str, str]]) -> Plan:
        self._check_size(pairs)
        own: dict[str, str] = {}
        for name, value in pairs:
            if name in _OWN:
                if name in own:
                    raise unparsable(name, "it was given more than once")
                own[name] = value
        level = self.top = Level(resource, self.names.of(resource) or resource.name)
        level.max_rows = self.settings.max_page_size * _PAGES
        try:
            items = parse_select(own.get("select", "*"), self.settings.max_include_depth)
        except MalformedError as error:
            raise unparsable("select", str(error)) from None
        self._select(level, items)
        for name, value in pairs:
            if name not in _OWN:
                self._parameter(level, name, value)
        self._make_nodes(level)
        return Plan(
            level,
            _listed("columns", own["columns"]) if "columns" in own else None,
            _listed("on_conflict", own["on_conflict"]) if own.get("on_conflict") else None,
        )

    def _check_size(self, pairs: Sequence[tuple[str, str]]) -> None:
        if len(pairs) > self.settings.max_parameters:
            raise failure(400, "PGRST100", f"There are more than {self.settings.max_parameters} parameters.")
        for name, value in pairs:
            longest = self.settings.max_filter_length
            if len(name) > longest or len(value) > longest * 8 or (name in _OWN and len(value) > longest):
                raise unparsable(shown(name), "it is too long")
            if "\x00" in name or "\x00" in value:
                raise unparsable(shown(name), "it holds a NUL character")

    def _select(self, level: Level, items: Sequence[Item]) -> None:
        readable = level.resource.readable
        for item in items:
            if isinstance(item, Star):
                level.fields += (self._column(level, Column(name)) for name in readable)
            elif isinstance(item, Column):
                level.fields.append(self._column(level, item))
            else:
                self._embed(level, item)
        if len(level.fields) > 2 * len(readable) + 100:
            raise failure(400, "PGRST100", "The parameter select names too many columns.")
        level.names += dict.fromkeys(item.name for item in level.fields)

    def _column(self, level: Level, item: Column) -> Field:
        found = level.resource.readable.get(item.name)
        if found is None:
            raise unknown_column(level.table, shown(item.name), listed(level.resource.readable))
        show = shown_as(found, item.path, item.as_text, item.cast)
        if show is None and item.alias in (None, found.name):
            return found
        return replace(found, name=item.alias or found.name, shown=show, origin=found)

    def _embed(self, level: Level, item: Embedded) -> None:
        self.embeddings += 1
        if self.embeddings > self.settings.max_includes:
            raise failure(400, "PGRST100", f"At most {self.settings.max_includes} relations can be embedded.")
        if not item.items and item.name == "count" and item.name not in level.resource.relations:
            raise failure(400, "PGRST123", "Aggregate functions are not allowed here.")
        relation = find_relation(level.resource, self.names, item.name, item.hint)
        name = item.alias or item.name
        if name in level.embedded:
            raise failure(
                400, "42712", f"The relation {shown(name)} is embedded more than once; give one of them an alias."
            )
        below = Level(relation.target, self.names.of(relation.target) or relation.target.name)
        found = Embedding(name, relation, below, self.settings.max_page_size, item.inner, item.spread)
        level.embedded[name] = found
        self._select(below, item.items)

    def _parameter(self, level: Level, name: str, value: str) -> None:
        """Note a filter, an order or a page, of the table or of an embedding."""
        try:
            path, (into, as_text) = _split(name)
            while len(path) > 1 and not (len(path) == 2 and path[0] == "not"):
                level, path = self._below(level, path[0], name), path[1:]
            last, negated = path[-1], len(path) == 2
            if last in ("and", "or"):
                word: Literal["and", "or"] = "and" if last == "and" else "or"
                written: Written = parse_tree(word, value, self.settings.max_depth, negated=negated)
            elif negated:
                raise MalformedError("after not. there is and, or or")
            elif last in _PAGE and not into:
                self._page(level, last, name, value)
                return
            else:
                written = parse_condition(last, value, into, as_text=as_text)
        except MalformedError as error:
            raise unparsable(shown(name), str(error)) from None
        level.written.append(written)

    def _below(self, level: Level, word: str, name: str) -> Level:
        found = level.embedded.get(word)
        if found is None:
            same = [item for item in level.embedded.values() if self.names.of(item.level.resource) == word]
            found = same[0] if len(same) == 1 else None
        if found is None:
            raise failure(
                400,
                "PGRST108",
                f"'{shown(word)}' is not an embedded resource in this request",
                hint=f"The parameter {shown(name)} needs it in select.",
            )
        return found.level

    def _page(self, level: Level, word: str, name: str, value: str) -> None:
        if word == "order":
            level.sort = self._sort(level, name, value)
        elif word == "limit":
            level.limit = read_rows(shown(name), value)
        else:
            level.offset = read_rows(shown(name), value)
            if level.offset > self.settings.max_offset:
                raise failure(400, "PGRST100", f"The parameter {shown(name)} is too large.")

    def _sort(self, level: Level, parameter: str, text: str) -> tuple[SortKey, ...]:
        keys: dict[str, SortKey] = {}
        scanner = Scanner(text)
        while not scanner.is_done:
            while scanner.accept(" "):
                pass
            name = scanner.name()
            if scanner.accept("("):
                related = self._related_column(level, name, scanner.name())
                scanner.expect(")")
                keys.setdefault(related.name, _sort_key(scanner, related))
                if not scanner.is_done:
                    scanner.expect(",")
                continue
            path, as_text = parse_path(scanner)
            found = level.resource.filterable.get(name)
            if found is None:
                raise unknown_column(level.table, shown(name), listed(level.resource.filterable))
            if path:
                found = self._within(level, found, path, as_text=as_text)
            if not is_sortable(found):
                raise failure(404, "42883", f"The column {level.table}.{found.name} has no order.")
            keys.setdefault(found.name, _sort_key(scanner, found))
            if not scanner.is_done:
                scanner.expect(",")
        if len(keys) > self.settings.max_sort:
            raise unparsable(shown(parameter), f"an order has at most {self.settings.max_sort} columns")
        return tuple(keys.values())

    def _related_column(self, level: Level, word: str, name: str) -> Field:
        """The column of an embedded row that an order names, as a field that has its place in ``related``."""
        below = self._below(level, word, "order")
        item = next(item for item in level.embedded.values() if item.level is below)
        found = below.resource.filterable.get(name)
        if found is None:
            raise unknown_column(below.table, shown(name), listed(below.resource.filterable))
        if level is not self.top:
            raise not_supported("An embedded relation is not ordered by another one.")
        if item.relation.to_many:
            msg = f"'{level.table}' and '{shown(word)}' do not form a many-to-one or one-to-one relationship"
            raise failure(400, "PGRST118", f"An order by '{shown(word)}' is not possible.", details=msg)
        if not is_sortable(found):
            raise failure(404, "42883", f"The column {below.table}.{found.name} has no order.")
        self.budget.relations(1)
        related = replace(found, name=f"{item.name}({found.name})", columns=(), primary_key=False)
        level.related[related.name] = item.relation
        return related

    def _within(self, level: Level, found: Field, path: tuple[str, ...], *, as_text: bool) -> Field:
        try:
            return within_json(found, path, self.family, as_text=as_text)
        except InvalidValueError as error:
            raise invalid_value(level.table, found.name, error) from None

    def _make_nodes(self, level: Level) -> None:
        for item in level.embedded.values():
            self._make_nodes(item.level)
        maker = NodeMaker(
            level.resource,
            level.table,
            {name: self._counted(item) for name, item in level.embedded.items()},
            self.settings,
            self.budget,
            self.family,
        )
        self.conditions += sum(item.size for item in level.written)
        if self.conditions > self.settings.max_nodes:
            raise failure(400, "PGRST100", f"There are more than {self.settings.max_nodes} conditions.")
        inner = [self._counted(item)() for item in level.embedded.values() if item.inner]
        level.nodes = (*(maker.node(item) for item in level.written), *inner)

    def _counted(self, item: Embedding) -> Any:
        """What gives the node of an embedding, counting that a relation is followed."""

        def find() -> Node:
            try:
                self.budget.relations(1 + sum(1 for _ in reached_by(item.level.nodes)))
            except InvalidValueError as error:
                raise failure(400, "PGRST100", f"The relation {shown(item.name)} {error.msg}.") from None
            return item.node

        return find


def _split(name: str) -> tuple[list[str], tuple[tuple[str, ...], bool]]:
    """The parts of a parameter's name between its dots, and where the last one leads within JSON."""
    scanner = Scanner(name)
    parts = [scanner.name()]
    while scanner.accept("."):
        parts.append(scanner.name())
    path = parse_path(scanner)
    if not scanner.is_done:
        raise scanner.malformed("the end of the name is expected")
    return parts, path


def _sort_key(scanner: Scanner, found: Field) -> SortKey:
    descending: bool | None = None
    nulls_last: bool | None = None
    while scanner.accept("."):
        word = scanner.name()
        if word in ("asc", "desc") and descending is None and nulls_last is None:
            descending = word == "desc"
        elif word in ("nullsfirst", "nullslast") and nulls_last is None:
            nulls_last = word == "nullslast"
        else:
            raise MalformedError(f"after the column {shown(found.name)} there is asc, desc, nullsfirst or nullslast")
    down = bool(descending)
    return SortKey(found, down, not down if nulls_last is None else nulls_last)


def _listed(parameter: str, text: str) -> tuple[str, ...]:
    scanner = Scanner(text)
    try:
        found = [scanner.name()]
        while scanner.accept(","):
            found.append(scanner.name())
        if not scanner.is_done:
            raise scanner.malformed("a comma is expected")
    except MalformedError as error:
        raise unparsable(parameter, str(error)) from None
    return tuple(dict.fromkeys(found))
