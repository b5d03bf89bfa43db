"""The error of a query string: everything that is wrong with it, at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

__all__ = ["Errors", "InvalidValueError", "QueryError", "QueryErrorItem", "listed", "shown"]

_NAME_LENGTH = 64
_LISTED = 100


class QueryErrorItem(TypedDict):
    """One fault, in the form of FastAPI's validation errors."""

    loc: list[str | int]
    msg: str
    type: str


class QueryError(ValueError):
    """A query string that cannot be answered (a 422): ``errors`` holds every fault that was found.

    Messages name what is unknown and list what is allowed. They never hold a value of a column.
    """

    def __init__(self, errors: list[QueryErrorItem]) -> None:
        super().__init__("; ".join(error["msg"] for error in errors))
        self.errors = errors

    @classmethod
    def of(cls, parameter: str, msg: str, kind: str = "value_error") -> QueryError:
        """Return the error of one fault in one parameter."""
        return cls([{"loc": ["query", shown(parameter)], "msg": msg, "type": kind}])


class InvalidValueError(ValueError):
    """A value that its column cannot be compared with; ``msg`` completes "<name> ..."."""

    def __init__(self, msg: str, kind: str = "value_error") -> None:
        super().__init__(msg)
        self.msg = msg
        self.kind = kind


class Errors:
    """Faults collected while a query string is read; at most 100 are kept."""

    def __init__(self) -> None:
        self.items: list[QueryErrorItem] = []

    def add(self, loc: tuple[str | int, ...], msg: str, kind: str = "value_error") -> None:
        """Note a fault at a place below ``query``."""
        if len(self.items) < _LISTED:
            place = [shown(part) if isinstance(part, str) else part for part in loc]
            self.items.append({"loc": ["query", *place], "msg": msg, "type": kind})

    def raise_any(self) -> None:
        """Raise :class:`QueryError` when anything was noted."""
        if self.items:
            raise QueryError(self.items)


def shown(name: str) -> str:
    """Return a name that came from outside, short and safe to print."""
    text = name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH]}..."
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def listed(names: Iterable[object]) -> str:
    """Return names for a message, the first hundred of them."""
    found = [str(name) for name in names]
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return (", ".join(found[:_LISTED]) + more) if found else "none"
