"""The parameters of a list in each dialect, read into one form: which rows, in which order, with what beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..narrowing import is_items
from ..query.errors import InvalidValueError, listed

__all__ = ["DIALECTS", "Asked", "Dialect", "dialects_of"]

Given = Mapping[str, Sequence[str]]

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True)
class Asked:
    """What the words of a dialect ask for.

    ``start`` and ``end`` are places of rows, the end not included; ``sort`` holds columns and whether downwards;
    ``embed`` names relations.
    """

    start: int | None = None
    end: int | None = None
    sort: tuple[tuple[str, bool], ...] = ()
    embed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """The words of one dialect.

    ``page``, ``order`` and ``embed`` are the parameters for these; ``read`` reads what was given of them and raises
    :class:`WordError`.
    """

    name: str
    page: str
    order: str
    embed: str
    words: tuple[str, ...]
    read: Callable[[Given], Asked]

    @property
    def for_router(self) -> dict[str, str]:
        """The words by the parameter of the router that they stand for."""
        return {"limit": self.page, "offset": self.page, "sort": self.order, "include": self.embed}

    def speaks(self, name: str, values: Sequence[str]) -> bool:
        """Whether a parameter is one of the dialect: ``sort`` only with an array of JSON, else it is a router's own."""
        return name in self.words and (name != "sort" or any(value.lstrip().startswith("[") for value in values))


class WordError(InvalidValueError):
    """A word of a dialect that cannot be read; ``word`` is its name."""

    def __init__(self, word: str, msg: str) -> None:
        super().__init__(f"{word} {msg}", "value_error")
        self.word = word


def _simple_rest(given: Given) -> Asked:
    start, end = _range(given)
    return Asked(start, end, _json_sort(given), _json_names(given, "embed"))


def _range(given: Given) -> tuple[int | None, int | None]:
    if "range" not in given:
        return None, None
    found = _document(given, "range")
    numbers = found if is_items(found) else ()
    if len(numbers) != 2 or not all(isinstance(number, str) and _NUMBER.fullmatch(number) for number in numbers):
        raise WordError("range", "must be the first and the last place of a row, such as [0,9]")
    first, last = int(numbers[0]), int(numbers[1])
    if last < first:
        raise WordError("range", "must not end before it starts")
    return first, last + 1


def _json_sort(given: Given) -> tuple[tuple[str, bool], ...]:
    if "sort" not in given:
        return ()
    found = _document(given, "sort")
    words = found if is_items(found) else ()
    if not words or len(words) % 2 or not all(isinstance(word, str) for word in words):
        raise WordError("sort", 'must be a column and ASC or DESC, such as ["title","ASC"]')
    pairs = zip(words[::2], words[1::2], strict=True)
    return tuple((name, _downwards("sort", order)) for name, order in pairs if name)


def _json_names(given: Given, word: str) -> tuple[str, ...]:
    if word not in given:
        return ()
    found = _document(given, word)
    names = found if is_items(found) else [found]
    if not all(isinstance(name, str) for name in names):
        raise WordError(word, 'must be relations, such as ["author"]')
    return tuple(name for name in names if name)


def _document(given: Given, word: str) -> Any:
    """The JSON that a word was given; its numbers stay text."""
    try:
        return json.loads(_once(given, word), parse_int=str, parse_float=_refused, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise WordError(word, "must be valid JSON") from None


def _refused(text: str) -> Any:
    raise ValueError(text)


def _json_server(given: Given) -> Asked:
    start, end = (_place(given, word) for word in ("_start", "_end"))
    if end is not None and end <= (start or 0):
        raise WordError("_end", "must be greater than _start")
    names, orders = (_once(given, word).split(",") if given.get(word) else [] for word in ("_sort", "_order"))
    if len(orders) > len(names) > 0:
        raise WordError("_order", "must have at most as many orders as _sort has columns")
    orders += [""] * (len(names) - len(orders))
    ways = [bool(order) and _downwards("_order", order) for order in orders]
    sort = tuple((name, way) for name, way in zip(names, ways, strict=False) if name)
    embed = tuple(name for value in given.get("_embed", ()) for name in value.split(",") if name)
    return Asked(start, end, sort, embed)


def _place(given: Given, word: str) -> int | None:
    if word not in given:
        return None
    text = _once(given, word)
    if not _NUMBER.fullmatch(text):
        raise WordError(word, "must be the place of a row, such as 0")
    return int(text)


def _once(given: Given, word: str) -> str:
    values = given[word]
    if len(values) > 1:
        raise WordError(word, f"was given {len(values)} times; give it once")
    return values[0]


def _downwards(word: str, order: str) -> bool:
    if order.upper() not in ("ASC", "DESC"):
        raise WordError(word, "must order by ASC or DESC")
    return order.upper() == "DESC"


DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("simple-rest", "range", "sort", "embed", ("range", "sort", "embed"), _simple_rest),
        Dialect(
            "json-server", "_end", "_sort", "_embed", ("_start", "_end", "_sort", "_order", "_embed"), _json_server
        ),
    )
}
"""The dialects that there are, by name."""


def dialects_of(names: Sequence[str]) -> tuple[Dialect, ...]:
    """Return dialects by name, each once. Raises ``ValueError`` for a name that none has."""
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    unknown = [repr(name) for name in wanted if name not in DIALECTS]
    if unknown:
        raise ValueError(f"There is no dialect {', '.join(unknown)}; there are: {listed(DIALECTS)}.")
    return tuple(DIALECTS[name] for name in wanted)
