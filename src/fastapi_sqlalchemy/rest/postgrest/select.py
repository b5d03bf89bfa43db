"""The parameter ``select``: columns with aliases, paths into JSON and casts, and embedded relations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from .errors import failure
from .scanner import MalformedError, Scanner

__all__ = ["Column", "Embedded", "Item", "Star", "parse_path", "parse_select"]

_AGGREGATES: Final = ("avg", "count", "max", "min", "sum")
_STOPS: Final = frozenset(",()")
_KEY_STOPS: Final = frozenset(',():."-')


@dataclass(frozen=True, slots=True)
class Star:
    """All columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``path`` leads into its JSON, its last step is text where ``as_text`` says so."""

    name: str
    alias: str | None = None
    path: tuple[str, ...] = ()
    as_text: bool = False
    cast: str | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """Related rows. ``hint`` tells which relation leads there, where there are several."""

    name: str
    items: tuple[Item, ...]
    alias: str | None = None
    hint: str | None = None
    inner: bool = False
    spread: bool = False


Item: TypeAlias = Star | Column | Embedded


def parse_select(text: str, max_depth: int) -> tuple[Item, ...]:
    """Return what a text selects; ``max_depth`` bounds the relations below each other.

    Raises :class:`MalformedError`, or the problem of what is not supported.
    """
    if not text.strip():
        return ()
    scanner = Scanner(text)
    items = _items(scanner, max_depth)
    if not scanner.is_done:
        raise scanner.malformed("a comma is expected")
    return items


def parse_path(scanner: Scanner) -> tuple[tuple[str, ...], bool]:
    """Return the steps into JSON that come next, and whether the last one gives text."""
    path: list[str] = []
    as_text = False
    while scanner.sees("->"):
        if as_text:
            raise scanner.malformed("nothing can follow ->>")
        scanner.accept("->")
        as_text = scanner.accept(">")
        negative = "-" if scanner.accept("-") else ""
        key = scanner.quoted() if scanner.char == '"' else negative + scanner.until(_KEY_STOPS).strip()
        if not key:
            raise scanner.malformed("a key is expected")
        path.append(key)
    return tuple(path), as_text


def _items(scanner: Scanner, depth: int) -> tuple[Item, ...]:
    found: list[Item] = []
    while True:
        found.append(_item(scanner, depth))
        if not scanner.accept(","):
            return tuple(found)


def _item(scanner: Scanner, depth: int) -> Item:
    while scanner.accept(" "):
        pass
    if scanner.accept("*"):
        return Star()
    spread = scanner.accept("...")
    name, alias = scanner.name(), None
    if scanner.sees(":") and not scanner.sees("::"):
        scanner.accept(":")
        alias, name = name, scanner.name()
    hint, inner = _hints(scanner)
    if scanner.accept("("):
        return _embedded(scanner, name, alias, hint, depth, inner=inner, spread=spread)
    if spread or hint or inner:
        raise scanner.malformed("the columns of a relation are expected in parentheses")
    path, as_text = parse_path(scanner)
    cast = _cast(scanner)
    if scanner.accept("."):
        _refuse_aggregate(scanner)
    return Column(name, alias or (_last_key(path) if path else None), path, as_text, cast)


def _embedded(
    scanner: Scanner, name: str, alias: str | None, hint: str | None, depth: int, *, inner: bool, spread: bool
) -> Embedded:
    if depth < 1:
        raise MalformedError("too many relations are embedded in one another")
    items: tuple[Item, ...] = ()
    if not scanner.accept(")"):
        items = _items(scanner, depth - 1)
        scanner.expect(")")
    return Embedded(name, items, alias, hint, inner, spread)


def _hints(scanner: Scanner) -> tuple[str | None, bool]:
    hint, inner = None, False
    while scanner.accept("!"):
        word = scanner.name()
        if word == "inner":
            inner = True
        elif word != "left":
            if hint is not None:
                raise scanner.malformed("one hint is enough")
            hint = word
    return hint, inner


def _cast(scanner: Scanner) -> str | None:
    if not scanner.accept("::"):
        return None
    word = scanner.until(_STOPS | {"."}).strip()
    if not word:
        raise scanner.malformed("a type is expected")
    return word.lower()


def _refuse_aggregate(scanner: Scanner) -> None:
    word = scanner.until(_STOPS).strip()
    if word in _AGGREGATES and scanner.sees("()"):
        raise failure(400, "PGRST123", "Aggregate functions are not allowed here.")
    raise scanner.malformed("a comma is expected")


def _last_key(path: tuple[str, ...]) -> str:
    """The name that a path gives its value: its last step that is no place in an array."""
    return next((key for key in reversed(path) if not key.lstrip("-").isdigit()), path[-1])
