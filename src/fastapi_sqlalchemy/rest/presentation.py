"""Rows as the bytes of a response.

They go through the router's ``read_schema`` where it does more than name columns, and get the ``id`` of a dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from .dialects.identity import Identity
from .operations.rows import Row, Shape
from .resource import Resource
from .serialize import Serializer, dump_json

__all__ = ["Presentation", "is_plain"]


class Presentation:
    """Writes whole rows (see ``Shape``) and objects."""

    def __init__(self, shape: Shape, read_schema: type[BaseModel] | None, identity: Identity | None = None) -> None:
        self._serializer = Serializer(shape.readable)
        self._identity = identity
        self._adapter: TypeAdapter[Any] | None = None
        if read_schema is not None and not is_plain(read_schema, shape.resource):
            self._adapter = TypeAdapter(read_schema)

    def row(self, row: Row) -> bytes:
        """Return one row as a JSON object."""
        return dump_json(self.objects([row])[0])

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Return rows as a JSON array."""
        return dump_json(self.objects(rows))

    def objects(self, rows: Sequence[Row]) -> list[Any]:
        """Return rows as objects, after the schema of the user's."""
        return self.shaped(self._serializer.objects(rows))

    def shaped(self, objects: list[dict[str, Any]]) -> list[Any]:
        """Return objects as the schema of the user's shows them."""
        adapter, identity = self._adapter, self._identity
        found: list[Any] = objects
        if adapter is not None:
            found = [adapter.dump_python(adapter.validate_python(item), mode="json", by_alias=True) for item in objects]
        return found if identity is None else identity.add(objects, found)

    @property
    def is_direct(self) -> bool:
        """Whether rows go out as they are."""
        return self._adapter is None and self._identity is None


def is_plain(schema: type[BaseModel], resource: Resource) -> bool:
    """Whether a read schema only names columns: no computed field, validator, serializer or alias."""
    decorators = schema.__pydantic_decorators__
    return (
        not schema.model_computed_fields
        and not decorators.field_validators
        and not decorators.model_validators
        and not decorators.field_serializers
        and not decorators.model_serializers
        and not any(info.alias or info.serialization_alias or info.metadata for info in schema.model_fields.values())
        and set(schema.model_fields) <= set(resource.fields)
    )
