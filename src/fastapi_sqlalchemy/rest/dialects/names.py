"""Names of filters and orders as clients of a dialect write them, turned into those of the router's own grammar."""

from __future__ import annotations

from collections.abc import Sequence

from ..query.names import RESERVED, Target, UnknownNameError, resolve
from ..resource import Resource
from .identity import ID, Identity

__all__ = ["OPERATORS", "Names", "as_list"]

OPERATORS = {
    "ne": "ne",
    "neq": "ne",
    "gt": "gt",
    "gte": "gte",
    "lt": "lt",
    "lte": "lte",
    "like": "icontains",  # the clients' "contains"; json-server looks for it whatever the case
}
"""What may follow a column and an underscore, and the operator that it is."""

_LISTS = {"eq": "in", "ne": "not_in"}
_WORDS = frozenset({*RESERVED, "and", "or", "not"})


class Names:
    """The names of one resource. A name of the router's own grammar is never read in another way."""

    def __init__(self, resource: Resource, identity: Identity | None, depth: int) -> None:
        self.resource = resource
        self.identity = identity
        self._depth = depth

    def filter(self, name: str, *, many: bool = False) -> str:
        """Return the name of a filter, with the operator for a list where ``many`` values are given.

        A name that leads nowhere is returned as it is, for the router to refuse.
        """
        column, operator = self._parts(name)
        if column is None:
            return name
        if many:
            operator = _LISTS.get(operator, operator)
        if operator != "eq":
            return f"{column}__{operator}"
        return f"{column}.eq" if column in _WORDS else column

    def order(self, name: str) -> tuple[str, ...]:
        """Return the columns that an order by a name is by."""
        if name == ID and self.identity is not None:
            return tuple(item.name for item in self.identity.resource.key)
        return (name,)

    def about_key(self, name: str) -> bool | None:
        """Whether a name asks for ids that have to be read as keys (True), for all others (False), or for no ids."""
        if self.identity is None or self.identity.column is not None:
            return None
        if name == ID or self._suffix(name) == (ID, "in"):
            return True
        return False if self._suffix(name)[0] == ID and self._suffix(name)[1] in ("ne", "not_in") else None

    def _parts(self, name: str) -> tuple[str | None, str]:
        """The column of a filter and its operator; None where the name leads nowhere."""
        found = self._resolved(name)
        if found is not None:
            return self._stem(name, found), found.operator
        stem, operator = self._suffix(name)
        if stem == ID and self.identity is not None and self.identity.column is not None:
            return self.identity.column, operator
        found = self._resolved(stem)
        if found is not None and found.field is not None and self._stem(stem, found) == stem:
            return stem, operator
        return None, operator

    def _suffix(self, name: str) -> tuple[str, str]:
        """A name cut before its operator, in the router's way or in that of the dialects."""
        stem, mark, operator = name.rpartition("__")
        if mark and operator in ("in", "not_in", *OPERATORS.values()):
            return stem, operator
        stem, mark, operator = name.rpartition("_")
        if mark and operator in OPERATORS:
            return stem, OPERATORS[operator]
        return name, "eq"

    def _resolved(self, name: str) -> Target | None:
        try:
            return resolve(self.resource, name, self._depth)
        except UnknownNameError:
            return None

    def _stem(self, name: str, found: Target) -> str:
        """The name without its operator; a column may be called like one."""
        for separator in ("__", "."):
            stem = name.removesuffix(f"{separator}{found.operator}")
            if stem != name and (shorter := self._resolved(stem)) is not None and shorter.field is found.field:
                return stem
        return name


def as_list(values: Sequence[str]) -> str:
    """Return values as a list of the router's own grammar, where a backslash keeps a comma."""
    return ",".join(value.replace("\\", "\\\\").replace(",", "\\,") for value in values)
