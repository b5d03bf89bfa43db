"""What of a row is answered: ``fields=`` and ``include=``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError

from .fields import Field
from .operations.include import Tree
from .query.errors import QueryError
from .query.parser import parse_query
from .query.settings import QuerySettings
from .query.tree import And, ListQuery, Node, Not, Or, Related
from .resource import Resource

__all__ = ["Selection", "reached_by", "read_query"]


@dataclass(frozen=True)
class Selection:
    """The fields of a row that are answered (None is all) and the relations that are included."""

    resource: Resource
    chosen: tuple[Field, ...] | None = None
    tree: Tree = field(default_factory=dict[str, Any])

    @property
    def is_whole(self) -> bool:
        """Whether the plain row is asked for."""
        return self.chosen is None and not self.tree

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields to answer."""
        return tuple(self.resource.readable.values()) if self.chosen is None else self.chosen

    def targets(self) -> Iterator[Resource]:
        """Yield every resource that is included."""
        yield from _included(self.resource, self.tree)

    @classmethod
    def of(cls, resource: Resource, pairs: Sequence[tuple[str, str]], settings: QuerySettings) -> Selection:
        """Read the parameters of a request for one row; anything but ``fields`` and ``include`` is a 422."""
        if not pairs:
            return cls(resource)
        allowed = ("fields", "include")
        unknown = [name for name, _ in pairs if name not in allowed]
        if unknown:
            msg = f"unknown parameter {unknown[0][:64]}; there is: fields, include"
            place = ["query", unknown[0][:64]]
            raise RequestValidationError([{"loc": place, "msg": msg, "type": "unknown_parameter"}])
        query = read_query(resource, pairs, settings, reserved=allowed)
        return cls(resource, query.fields, query.include)


def read_query(
    resource: Resource, pairs: Sequence[tuple[str, str]], settings: QuerySettings, **options: Any
) -> ListQuery:
    """Return what a query string asks for; its faults are the errors of a 422."""
    try:
        return parse_query(resource, pairs, settings, **options)
    except QueryError as error:
        raise RequestValidationError(error.errors) from None


def reached_by(nodes: Iterable[Node]) -> Iterator[Resource]:
    """Yield every resource that a filter looks into."""
    for node in nodes:
        if isinstance(node, (And, Or)):
            yield from reached_by(node.items)
        elif isinstance(node, Not):
            yield from reached_by([node.item])
        elif isinstance(node, Related):
            yield node.relation.target
            if node.item is not None:
                yield from reached_by([node.item])


def _included(resource: Resource, tree: Tree) -> Iterator[Resource]:
    for name, below in tree.items():
        target = resource.relations[name].target
        yield target
        yield from _included(target, below)
