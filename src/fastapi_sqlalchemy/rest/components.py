"""Components of the OpenAPI document: the JSON schemas of rows and bodies, put together from those of their columns.

To make a model of pydantic of each row and body for the document alone would be most of the work of the first document.
Pydantic tells the JSON schema of each type of column once; a component is an object of these, and equals the JSON
schema of the model that checks the same members.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from decimal import Decimal
from inspect import cleandoc
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import any_schema

from .relations import Relation
from .resource import Resource
from .schemas import BodyKind, Member, body_members, body_model, read_members, title_of

__all__ = ["Component", "body_component", "row_component", "selection_component"]

MAX_TYPES = 1024
"""Types of columns whose JSON schema is kept."""

_COMPONENT = "fastapi_sqlalchemy.component"
_ROW = "row component"
_SELECTION = "selection component"
_MODULE = body_model.__module__  # an ambiguous name is told apart by the module of the model
_SHARED = frozenset(
    {str, int, float, bool, Decimal, bytes, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, dict}
)
"""Types of values whose JSON schema depends on no more of a column than what `_type_schema` tells them apart by."""

_types: dict[tuple[Any, ...], JsonSchemaValue] = {}


class Component:
    """An object of the document with a name: ``members`` are its properties, and ``relations``, by reference.

    A ``closed`` one takes no other property.
    """

    def __init__(
        self,
        name: str,
        members: Iterable[Member],
        *,
        relations: Iterable[Relation] = (),
        doc: str | None = None,
        closed: bool = False,
    ) -> None:
        self.name = name
        self.members = list(members)
        self.relations = list(relations)
        self.doc = doc
        self.closed = closed

    @property
    def core_schema(self) -> Any:
        """What a generator of pydantic makes the component of, and a reference to it."""
        metadata = {**_ANY["metadata"], _COMPONENT: self}
        return {**_ANY, "ref": f"{_MODULE}.{self.name}:{id(self)}", "metadata": metadata}

    def json_schema(self, generator: GenerateJsonSchema) -> JsonSchemaValue:
        """Return the object itself, as a generator in its present mode has it."""
        properties: dict[str, Any] = {}
        for member in self.members:
            name = member.field.name
            schema = {**_type_schema(member, generator), **member.options}
            schema.setdefault("title", generator.get_title_from_name(name))
            if member.description:
                schema["description"] = member.description
            properties[name] = schema
        for relation in self.relations:
            properties[relation.name] = _relation_schema(relation, generator)
        found: dict[str, Any] = {"type": "object", "properties": properties, "title": self.name}
        required = [member.field.name for member in self.members if member.required]
        if required:
            found["required"] = required
        if self.doc:
            found["description"] = cleandoc(self.doc)
        if self.closed:
            found["additionalProperties"] = False
        return found


def row_component(resource: Resource) -> Component:
    """Return the component of a whole row, made once."""
    if _ROW not in resource.made:
        resource.made[_ROW] = Component(title_of(resource), read_members(resource), doc=resource.doc)
    found: Component = resource.made[_ROW]
    return found


def selection_component(resource: Resource) -> Component:
    """Return the component of a row of which ``fields=`` and ``include=`` chose parts, made once."""
    if _SELECTION not in resource.made:
        name = f"{title_of(resource)}Selection"
        members = read_members(resource, partial=True)
        relations = resource.relations.values()
        resource.made[_SELECTION] = Component(name, members, relations=relations, doc=resource.doc)
    found: Component = resource.made[_SELECTION]
    return found


def body_component(
    resource: Resource, kind: BodyKind, *, preset: Iterable[str] = (), extra: Iterable[str] = ()
) -> Component:
    """Return the component of what `body_model` checks."""
    members = body_members(resource, kind, preset=preset, extra=extra)
    return Component(f"{title_of(resource)}{kind}", members, closed=True)


def _type_schema(member: Member, generator: GenerateJsonSchema) -> JsonSchemaValue:
    field = member.field
    if field.choices is not None or field.python_type not in _SHARED:
        return generator.generate_inner(TypeAdapter(member.annotation).core_schema)
    key = (
        generator.mode,
        member.written,
        type(field.sql_type) if field.python_type is object else field.python_type,
        field.is_text,
        member.nullable,
        field.timezone,
        field.max_length,
        field.precision,
        field.scale,
        field.minimum,
        field.maximum,
    )
    found = _types.get(key)
    if found is None:
        if len(_types) >= MAX_TYPES:
            _types.clear()
        found = _types[key] = generator.generate_inner(TypeAdapter(member.annotation).core_schema)
    return found


def _relation_schema(relation: Relation, generator: GenerateJsonSchema) -> JsonSchemaValue:
    target = generator.generate_inner(row_component(relation.target).core_schema)
    if relation.to_many:
        return {"type": "array", "items": target, "title": generator.get_title_from_name(relation.name)}
    return {"anyOf": [target, {"type": "null"}]}


class _AnyComponent:
    """The type whose core schema those of all components are made of; its hook is told the component."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return any_schema()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        component: Component = schema["metadata"][_COMPONENT]
        return component.json_schema(generator_of(handler))


def generator_of(handler: GetJsonSchemaHandler) -> GenerateJsonSchema:
    """Return the generator that a handler works for."""
    own: Any = handler
    found: GenerateJsonSchema = own.generate_json_schema
    return found


_ANY: Any = TypeAdapter(_AnyComponent).core_schema
