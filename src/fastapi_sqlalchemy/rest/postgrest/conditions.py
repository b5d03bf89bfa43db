"""Conditions as they are written: ``column=not.op(any).value`` and the trees of ``and`` and ``or``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from .scanner import MalformedError, Scanner
from .select import parse_path

__all__ = ["Condition", "Junction", "Written", "parse_condition", "parse_tree"]

_QUANTIFIED: Final = ("eq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch")
_SEARCHES: Final = ("fts", "plfts", "phfts", "wfts")
_OPERATORS: Final = frozenset(
    (*_QUANTIFIED, *_SEARCHES, "neq", "in", "is", "isdistinct", "cs", "cd", "ov", "sl", "sr", "nxr", "nxl", "adj")
)
_VALUE_STOPS: Final = frozenset(",)")
_LIST_STOPS: Final = frozenset(",)")
_ARRAY_STOPS: Final = frozenset(",}")
_WORD_STOPS: Final = frozenset('.(,)"')

Quantifier: TypeAlias = Literal["any", "all"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; the value of ``in`` and of ``any`` and ``all`` is a tuple of texts.

    ``path`` leads into JSON, to its text where ``as_text`` says so; ``argument`` is what a search has in parentheses.
    """

    name: str
    operator: str
    value: str | tuple[str, ...]
    negated: bool = False
    quantifier: Quantifier | None = None
    argument: str | None = None
    path: tuple[str, ...] = ()
    as_text: bool = False

    @property
    def is_list(self) -> bool:
        """Whether its values are one list, which is one comparison: ``in``, and ``eq(any)``, which means the same."""
        return self.operator == "in" or (self.operator == "eq" and self.quantifier == "any")

    @property
    def size(self) -> int:
        """How many comparisons it stands for: one for each value of ``any`` and ``all``."""
        return 1 if self.is_list or isinstance(self.value, str) else max(1, len(self.value))


@dataclass(frozen=True, slots=True)
class Junction:
    """Conditions joined by ``and`` or by ``or``."""

    word: Literal["and", "or"]
    items: tuple[Written, ...]
    negated: bool = False

    @property
    def size(self) -> int:
        """How many comparisons there are in it, itself one of them."""
        return 1 + sum(item.size for item in self.items)


Written: TypeAlias = "Condition | Junction"


def parse_condition(name: str, text: str, path: tuple[str, ...] = (), *, as_text: bool = False) -> Condition:
    """Return the condition of a parameter: the whole rest of the text is its value, quotes too."""
    scanner = Scanner(text)
    found = replace(_operation(scanner, name, nested=False), path=path, as_text=as_text)
    if not scanner.is_done:
        raise scanner.malformed("the end is expected")
    return found


def parse_tree(word: Literal["and", "or"], text: str, max_depth: int, *, negated: bool = False) -> Junction:
    """Return the tree of a parameter ``and`` or ``or``; ``max_depth`` bounds its levels."""
    scanner = Scanner(text)
    items = _items(scanner, max_depth)
    if not scanner.is_done:
        raise scanner.malformed("the end is expected")
    return Junction(word, items, negated)


def _items(scanner: Scanner, depth: int) -> tuple[Written, ...]:
    if depth < 1:
        raise MalformedError("there are too many levels")
    scanner.expect("(")
    found: list[Written] = []
    while True:
        _blanks(scanner)
        found.append(_written(scanner, depth))
        _blanks(scanner)
        if scanner.accept(")"):
            return tuple(found)
        scanner.expect(",")


def _written(scanner: Scanner, depth: int) -> Written:
    for text, negated in (("not.", True), ("", False)):
        if scanner.sees(f"{text}and("):
            scanner.position += len(text) + 3
            return Junction("and", _items(scanner, depth - 1), negated)
        if scanner.sees(f"{text}or("):
            scanner.position += len(text) + 2
            return Junction("or", _items(scanner, depth - 1), negated)
    name = scanner.name()
    path, as_text = parse_path(scanner)
    scanner.expect(".")
    return replace(_operation(scanner, name, nested=True), path=path, as_text=as_text)


def _operation(scanner: Scanner, name: str, *, nested: bool) -> Condition:
    negated = scanner.accept("not.")
    start = scanner.position
    operator = scanner.until(_WORD_STOPS)
    if operator not in _OPERATORS:
        scanner.position = start
        raise scanner.malformed("an operator is expected, such as eq, gt, like, in or is")
    quantifier, argument = _modifier(scanner, operator)
    scanner.expect(".")
    value: str | tuple[str, ...]
    if operator == "in":
        value = _listed(scanner, "(", ")", _LIST_STOPS)
    elif quantifier is not None:
        value = _listed(scanner, "{", "}", _ARRAY_STOPS)
    elif nested:
        value = _value(scanner)
    else:
        value = scanner.text[scanner.position :]
        scanner.position = len(scanner.text)
    return Condition(name, operator, value, negated, quantifier, argument)


def _modifier(scanner: Scanner, operator: str) -> tuple[Quantifier | None, str | None]:
    if not scanner.accept("("):
        return None, None
    word = scanner.until(_VALUE_STOPS).strip()
    scanner.expect(")")
    if operator in _SEARCHES:
        return None, word
    if operator in _QUANTIFIED and word == "any":
        return "any", None
    if operator in _QUANTIFIED and word == "all":
        return "all", None
    raise MalformedError(f"{operator} has no such modifier")


def _value(scanner: Scanner) -> str:
    """A value within a tree: quoted, an array in braces, or up to the next comma or parenthesis."""
    start = scanner.position
    if scanner.char == '"':
        found = scanner.quoted()
        if scanner.sees(",") or scanner.sees(")"):
            return found
        scanner.position = start
    if scanner.sees("{"):
        _listed(scanner, "{", "}", _ARRAY_STOPS)
        return scanner.text[start : scanner.position]
    return scanner.until(_VALUE_STOPS)


def _listed(scanner: Scanner, first: str, last: str, stops: frozenset[str]) -> tuple[str, ...]:
    scanner.expect(first)
    if scanner.accept(last):
        return ()
    found: list[str] = []
    while True:
        found.append(_item_of_list(scanner, last, stops))
        if scanner.accept(last):
            return tuple(found)
        scanner.expect(",")


def _item_of_list(scanner: Scanner, last: str, stops: frozenset[str]) -> str:
    start = scanner.position
    if scanner.char == '"':
        found = scanner.quoted()
        if scanner.sees(",") or scanner.sees(last):
            return found
        scanner.position = start
    return scanner.until(stops)


def _blanks(scanner: Scanner) -> None:
    while scanner.accept(" "):
        pass
