"""What a request asks for, once it is read: what of the rows, which rows, in which order, and what is embedded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..fields import Field
from ..operations.include import Branch
from ..query.tree import And, Node, Related, SortKey
from ..relations import Relation
from ..resource import Resource
from ..selection import reached_by
from .conditions import Junction, Written

__all__ = ["Embedding", "Level", "Plan"]


@dataclass(eq=False)
class Level:
    """What is asked of one resource: of the table itself, or of an embedding.

    ``related`` are the relations that the columns of an order are read over, by the names of these; ``max_rows``
    bounds the rows of a whole answer.
    """

    resource: Resource
    table: str
    fields: list[Field] = field(default_factory=list[Field])
    names: list[str] = field(default_factory=list[str])
    embedded: dict[str, Embedding] = field(default_factory=dict[str, "Embedding"])
    written: list[Written] = field(default_factory=list[Written])
    sort: tuple[SortKey, ...] = ()
    related: dict[str, Relation] = field(default_factory=dict[str, Relation])
    limit: int | None = None
    offset: int = 0
    max_rows: int | None = None
    nodes: tuple[Node, ...] = ()

    @property
    def is_regular(self) -> bool:
        """Whether filters and order name columns alone, so that other requests are of the same shape."""
        return all(item.field.columns for item in self.sort) and not any(
            _looks_into_json(item) for item in self.written
        )

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The embeddings that are answered, as relations to read."""
        return tuple(item.branch for item in self.embedded.values() if item.is_answered)

    def below(self) -> Iterator[Resource]:
        """Yield every resource that is embedded."""
        for item in self.embedded.values():
            yield item.level.resource
            yield from item.level.below()


@dataclass(eq=False)
class Embedding:
    """Related rows of a level; an ``inner`` one leaves out the rows that have none."""

    name: str
    relation: Relation
    level: Level
    max_rows: int
    inner: bool = False
    spread: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether anything of it was selected."""
        return bool(self.level.names) or bool(self.level.branches)

    @property
    def node(self) -> Node:
        """The condition that there are related rows for which the filters of the embedding hold."""
        return Related(self.relation, And(self.level.nodes) if self.level.nodes else None)

    @property
    def branch(self) -> Branch:
        """The embedding as a relation to read."""
        level = self.level
        return Branch(
            self.name,
            self.relation,
            tuple(level.fields),
            level.branches,
            level.nodes,
            level.sort,
            self.max_rows if level.limit is None else min(level.limit, self.max_rows),
            level.offset,
            self.spread,
        )


@dataclass(eq=False)
class Plan:
    """A request: its level, and the parameters of a change."""

    level: Level
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is embedded."""
        return not self.level.branches

    def reached(self) -> Iterator[Resource]:
        """Yield every resource that the request looks into."""
        yield from self.level.below()
        yield from reached_by(self.level.nodes)


def _looks_into_json(written: Written) -> bool:
    if isinstance(written, Junction):
        return any(_looks_into_json(item) for item in written.items)
    return bool(written.path)
