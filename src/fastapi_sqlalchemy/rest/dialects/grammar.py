"""A list or a row as a client of a dialect asks for it, turned into the parameters of the router's own grammar.

A request of a list is one of the router's own where it names a parameter that only the router has (``limit``,
``offset``, ``cursor``, ``fields``, ``include``, ``count``, or a ``sort`` that is no array of JSON); then nothing is
turned. Every other one is of a dialect, and counts its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from fastapi.exceptions import RequestValidationError

from ..query.errors import InvalidValueError, listed, shown
from ..query.names import RESERVED
from ..query.settings import QuerySettings
from ..query.values import is_list
from ..resource import Resource
from .identity import Identity
from .members import joined_members, split_members
from .names import Names, as_list
from .words import Asked, Dialect, WordError

__all__ = ["Grammar", "Pairs", "Translation"]

Pairs: TypeAlias = list[tuple[str, str]]

_OWN = frozenset({"limit", "offset", "cursor", "fields", "include", "count"})
_TREE = frozenset({"and", "or", "not", "q"})


class Translation:
    """A query string in the router's grammar: ``pairs``, and in ``given`` what the client wrote for their names."""

    def __init__(self) -> None:
        self.pairs: Pairs = []
        self.given: dict[str, str] = {}

    def place(self, loc: Sequence[str | int]) -> list[str | int]:
        """Return where the client finds what an error of the router is about."""
        return [*loc[:1], *(self.given.get(part, part) if isinstance(part, str) else part for part in loc[1:])]


class Grammar:
    """What the dialects of one router make of a query string."""

    def __init__(
        self, dialects: Sequence[Dialect], resource: Resource, identity: Identity | None, settings: QuerySettings
    ) -> None:
        self.dialects = dialects
        self.settings = settings
        self.identity = identity
        self.names = Names(resource, identity, settings.max_relation_depth)

    def page(self, pairs: Pairs, *, whole: bool = False) -> Translation | None:
        """Return a list of a dialect in the router's grammar; None for a list in the router's own.

        ``whole`` tells that the answer is a stream, which has every row where no page is asked for. Raises
        ``RequestValidationError`` for a word that cannot be read.
        """
        given: dict[str, list[str]] = {}
        for name, value in pairs:
            given.setdefault(name, []).append(value)
        speaking = [item for item in self.dialects if any(item.speaks(name, given[name]) for name in given)]
        if any(name in _OWN for name in given) or ("sort" in given and not self._is_word("sort", given["sort"])):
            return None
        if len(speaking) > 1:
            words = [next(name for name in given if item.speaks(name, given[name])) for item in speaking]
            msg = f"{listed(words)} are words of several dialects ({listed(item.name for item in speaking)}); use one"
            raise _refused(words[-1], msg, "contradiction")
        try:
            asked = speaking[0].read(given) if speaking else Asked()
        except WordError as error:
            raise _refused(error.word, error.msg, error.kind) from None
        filters = {name: values for name, values in given.items() if not self._is_word(name, values)}
        found = Translation()
        found.pairs += self._filters(filters, found.given)
        found.pairs += self._sort(asked)
        found.pairs += self._rows(asked, whole=whole)
        for item in speaking:
            found.given |= {name: word for name, word in item.for_router.items() if word in given}
        return found

    def row(self, pairs: Pairs) -> Translation | None:
        """Return a request of one row in the router's grammar: a word for relations is the router's ``include``."""
        words = {item.embed: item for item in self.dialects}
        if not any(name in words for name, _ in pairs):
            return None
        found = Translation()
        for name, value in pairs:
            if name not in words:
                found.pairs.append((name, value))
                continue
            try:
                found.pairs.append(("include", as_list(words[name].read({name: [value]}).embed)))
                found.given["include"] = name
            except WordError as error:
                raise _refused(error.word, error.msg, error.kind) from None
        return found

    def _is_word(self, name: str, values: Sequence[str]) -> bool:
        return any(item.speaks(name, values) for item in self.dialects)

    def _filters(self, given: dict[str, list[str]], names: dict[str, str]) -> Iterator[tuple[str, str]]:
        trees: list[str] = []
        for name, values in given.items():
            if name == "filter" and len(values) == 1:
                trees.append(self._tree(values[0], names))
            elif name in RESERVED:
                yield from ((name, value) for value in values)
            elif (wanted := self.names.about_key(name)) is not None:
                trees.append(self._ids(name, values, wanted=wanted))
            else:
                for own, value in self._plain(name, values):
                    names[own] = name
                    yield own, value
        trees = [tree for tree in trees if tree.strip() != "{}"]
        if trees:
            yield "filter", trees[0] if len(trees) == 1 else f'{{"and":[{",".join(trees)}]}}'

    def _plain(self, name: str, values: Sequence[str]) -> Iterator[tuple[str, str]]:
        """A parameter that is repeated asks for any of its values; one that takes no list stays for the router."""
        own = self.names.filter(name, many=len(values) > 1)
        if len(values) > 1 and own.endswith(("__in", "__not_in")) and own != name:
            yield own, as_list(values)
        else:
            yield from ((own, value) for value in values)

    def _tree(self, text: str, names: dict[str, str]) -> str:
        """A filter of JSON with the names of the router; the values stay as they were written."""
        members = split_members(text) if len(text) <= self.settings.max_filter_length else None
        if members is None:
            return text
        plain: list[tuple[str, str]] = []
        trees: list[str] = []
        for name, value in members:
            wanted = None if name in _TREE else self.names.about_key(name)
            if wanted is not None:
                trees.append(self._ids(name, _texts(value), wanted=wanted))
            elif name in _TREE:
                plain.append((name, value))
            else:
                own = self.names.filter(name, many=value.startswith("["))
                names[own] = name
                plain.append((own, value))
        if plain or not trees:
            trees.append(joined_members(plain))
        return trees[0] if len(trees) == 1 else f'{{"and":[{",".join(trees)}]}}'

    def _ids(self, name: str, texts: Sequence[str], *, wanted: bool) -> str:
        assert self.identity is not None
        if len(texts) > self.settings.max_values:
            raise _refused(name, f"{name} must have at most {self.settings.max_values} values", "too_long")
        try:
            found = self.identity.condition(texts)
        except InvalidValueError as error:
            raise _refused(name, f"{shown(name)} {error.msg}", error.kind) from None
        return found if wanted else f'{{"not":{found}}}'

    def _sort(self, asked: Asked) -> Iterator[tuple[str, str]]:
        columns = [
            f"-{column}" if downwards else column for name, downwards in asked.sort for column in self.names.order(name)
        ]
        if columns:
            yield "sort", as_list(columns)

    def _rows(self, asked: Asked, *, whole: bool) -> Iterator[tuple[str, str]]:
        if asked.start is not None:
            yield "offset", str(asked.start)
        if asked.end is not None:
            yield "limit", str(asked.end - (asked.start or 0))
        elif not whole:
            yield "limit", str(self.settings.max_page_size)
        if asked.embed:
            yield "include", as_list(asked.embed)
        if self.settings.count == "none":
            yield "count", "exact"


def _texts(value: str) -> list[str]:
    """The texts of a value of JSON, or of the values of an array."""
    try:
        found = json.loads(value, parse_int=str, parse_float=str)
    except RecursionError:  # what was read a little higher in the stack
        return [""]
    items = found if is_list(found) else [found]
    return [item if isinstance(item, str) else json.dumps(item) for item in items]


def _refused(parameter: str, msg: str, kind: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ["query", shown(parameter)], "msg": msg, "type": kind}])
