"""Related rows of a page by one statement for each relation, whose text does not depend on how many parents there are.

The keys of the parents are parameters of their own, filled up to a power of two by the last of them, so that a handful
of statements serves every page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ..operations.include import INCLUDE_LIMIT, related_statement
from ..operations.matching import may_be_alike
from ..operations.rows import Row
from ..ownership import Ownership
from ..relations import Relation
from ..resource import Resource
from ..serialize import with_offset
from .nested import related_json
from .statement import Found
from .work import GiveWay, Work
from .writer import Write, writer

__all__ = ["Children"]


class Children:
    """One relation of a resource, as a list includes it. ``place`` is where a row of the resource has its key."""

    def __init__(self, resource: Resource, relation: Relation, place: int) -> None:
        self.name = relation.name
        self._resource = resource
        self._relation = relation
        self._place = place
        self._ownership = Ownership(resource)
        self._fields = tuple(relation.target.readable.values())
        self._statements: dict[int, sa.Select[Any]] = {}
        self._write: Write | None = None
        self.json: sa.ScalarSelect[Any] | None = None
        """The related rows of one row as a column that the server writes; None where it cannot, or before a read."""

    @property
    def is_known(self) -> bool:
        """Whether related rows were read once."""
        return self._write is not None

    @classmethod
    def of(cls, resource: Resource, name: str) -> Children | None:
        """Return the relation of that name; None where its key is more than one plain column that is answered."""
        relation = resource.relations[name]
        if len(relation.pairs) != 1:
            return None
        local = relation.pairs[0][0]
        for place, field in enumerate(resource.readable.values()):
            if local is field.column:
                return cls(resource, relation, place)
        return None

    def read(self, parents: Found, limit: int) -> Work[dict[tuple[Any, ...], list[dict[str, Any]]]]:
        """Read the rows that belong to the first ``limit`` parents, as objects by the key of their parent."""
        if any(place == self._place for place, _ in parents.processors):
            raise GiveWay
        keys = [key for key in dict.fromkeys(row[self._place] for row in parents.raw[:limit]) if key is not None]
        if not keys:
            return {}
        known = {(key,) for key in keys}
        if may_be_alike(known, "sqlite"):
            raise GiveWay
        size = 1 << (len(keys) - 1).bit_length()
        keys += [keys[-1]] * (size - len(keys))
        found = yield self._statement(size), {f"key_{number}": key for number, key in enumerate(keys)}
        groups = self._grouped(found)
        if not groups.keys() <= known:
            raise GiveWay
        return groups

    def set(self, item: dict[str, Any], parent: Row, groups: dict[tuple[Any, ...], list[dict[str, Any]]]) -> None:
        """Set the relation on the object of a parent."""
        found = groups.get((parent[self._place],), [])
        relation = self._relation
        item[relation.name] = found if relation.to_many else (found[0] if found else None)

    def _grouped(self, found: Found) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
        last = found.width - 1
        if any(place == last for place, _ in found.processors):
            raise GiveWay
        if self._write is None:
            offsets = [(place, with_offset) for place, field in enumerate(self._fields) if field.timezone]
            names = [field.name for field in self._fields]
            self._write = writer(names, found.width, [*found.processors, *offsets])
            if not found.processors and not offsets:
                self.json = related_json(self._resource, self._relation, self._fields, found.codes)
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row, item in zip(found.raw, self._write(found.raw), strict=True):
            groups.setdefault((row[last],), []).append(item)
        return groups

    def _statement(self, size: int) -> sa.Select[Any]:
        statement = self._statements.get(size)
        if statement is None:
            column = self._relation.pairs[0][1]
            keys: Sequence[tuple[Any]] = [(sa.bindparam(f"key_{number}", type_=column.type),) for number in range(size)]
            target = self._relation.target
            statement = self._statements[size] = related_statement(
                self._ownership, self._relation, target, self._fields, [], keys, INCLUDE_LIMIT
            )
        return statement
