"""OpenAPI of generated routes, written when the document is asked for: models may be declared after their routers."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, ItemsView, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import any_schema

from ..web.problems import MEDIA_TYPE, Problem
from .components import Component, generator_of
from .fields import Field
from .keys import escape
from .narrowing import is_dict, is_items

__all__ = [
    "Array",
    "Brings",
    "Envelope",
    "Identified",
    "LazyOperation",
    "Problem",
    "ResponseObject",
    "answer_of",
    "body_of",
    "component_of",
    "header_parameter",
    "key_parameter",
    "problems",
    "row_headers",
]

_KEY_FORMATS = {uuid.UUID: "uuid", dt.date: "date"}
_KEY_PATTERNS = {
    uuid.UUID: "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    dt.date: "[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])",
    bool: "(true|false)",
    float: "-?[0-9]{1,6}",
    Decimal: "-?[0-9]{1,6}",
    bytes: "([A-Za-z0-9]{4})+",
}
_PROBLEM_TEXTS = {
    401: "Nobody has logged in.",
    403: "The caller may not do that.",
    404: "There is no such row.",
    405: "The path has no such method; see Allow.",
    409: "The change breaks a unique or foreign key constraint, or met another change.",
    412: "If-Match does not hold: the row has changed.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A value, a name or the body is not valid.",
    428: "If-Match is required.",
    500: "The database cannot run the statement, such as one on a broken view.",
    503: "The database is not available, or too slow.",
}


class LazyOperation(dict[str, Any]):
    """An ``openapi_extra`` that is built when OpenAPI reads it."""

    def __init__(self, build: Callable[[], dict[str, Any]]) -> None:
        super().__init__(built="later")
        self._build = build

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return the items of the operation as built now."""
        return self._build().items()

    def __getitem__(self, key: str) -> Any:
        return self._build()[key]


def body_of(build: Callable[[], Any]) -> Any:
    """Return an annotation that accepts anything and is documented as the type that ``build`` returns."""
    return Annotated[Any, _Documentation(build)]


def answer_of(build: Callable[[], Any]) -> Any:
    """Return the model of a response that is documented as the type that ``build`` returns.

    It brings the component into the document that `problems` refer to.
    """
    return Annotated[_Answer, _Documentation(build, ProblemDetails)]


class _Answer:
    """The type of any answer; pydantic builds what checks it when it is asked for, which is for the document alone."""

    __pydantic_config__ = ConfigDict(defer_build=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return any_schema()


class _Documentation:
    """The JSON schema of an annotation, asked for as late as possible; components of ``others`` are made beside it."""

    def __init__(self, build: Callable[[], Any], *others: type[BaseModel]) -> None:
        self._build = build
        self._others = others

    def __deepcopy__(self, memo: dict[int, Any]) -> _Documentation:
        return self

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        generate = generator_of(handler).generate_inner
        for model in self._others:
            generate(component_of(model))
        return _json_schema(self._build(), generate)


class Brings:
    """An annotation that brings more components into the document, and changes nothing of what it is beside."""

    def __init__(self, *others: type[BaseModel]) -> None:
        self._others = others

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        for model in self._others:
            generator_of(handler).generate_inner(component_of(model))
        return handler(schema)


@dataclass(frozen=True)
class Array:
    """An array of at most ``max_items`` objects of a model."""

    model: Any
    max_items: int


@dataclass(frozen=True)
class Envelope:
    """A list with what belongs to it: ``{"items", "next", "total"}``."""

    items: Any


@dataclass(frozen=True)
class Identified:
    """A row with an ``id`` beside its own members, of which ``schema`` is the JSON schema."""

    row: Any
    schema: dict[str, Any]


def _json_schema(kind: Any, handler: Callable[[CoreSchema], JsonSchemaValue]) -> JsonSchemaValue:
    """The JSON schema of a component or a model, of ``[model]`` (an array) or of ``(a, b)`` (either)."""
    if is_dict(kind):
        return kind
    if isinstance(kind, list):
        return {"type": "array", "items": _json_schema(kind[0], handler)}
    if isinstance(kind, Array):
        return {"type": "array", "items": _json_schema(kind.model, handler), "maxItems": kind.max_items}
    if isinstance(kind, Envelope):
        properties = {
            "items": _json_schema(kind.items, handler),
            "next": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "The URL of the next page."},
            "total": {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "All rows, when counted."},
        }
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(kind, Identified):
        own = {"type": "object", "properties": {"id": kind.schema}, "required": ["id"]}
        return {"allOf": [_json_schema(kind.row, handler), own]}
    if is_items(kind):
        return {"anyOf": [_json_schema(item, handler) for item in kind]}
    return handler(kind.core_schema if isinstance(kind, Component) else component_of(kind))


def component_of(model: type[BaseModel]) -> Any:
    """Return the core schema of a model, marked so that its JSON schema becomes a component of the document."""
    schema: Any = model.__pydantic_core_schema__
    name = f"{model.__module__}.{model.__qualname__}:{id(model)}"
    if schema["type"] == "definitions" and "ref" not in schema["schema"] and schema["schema"]["type"] == "model":
        return {**schema, "schema": {**schema["schema"], "ref": name}}
    return {**schema, "ref": name} if schema["type"] == "model" and "ref" not in schema else schema


class ProblemDetails(Problem):
    """An error as RFC 9457 has it: ``code`` and ``fields`` are for programs, ``detail`` is for people."""


class ResponseObject(dict[str, Any]):
    """One of the ``responses`` of a route; what it holds is shared among routes, so a deep copy is one of its top."""

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return dict(self)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of the problems that a route can give."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        found[status] = ResponseObject(
            description=_PROBLEM_TEXTS.get(status, HTTPStatus(status).phrase), content=_PROBLEM_CONTENT
        )
        if status in (409, 503):
            found[status]["headers"] = _RETRY_HEADERS
    return found


_PROBLEM_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}}
_RETRY_HEADERS = {
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "string"}},
}


def key_parameter(fields: Sequence[Field]) -> dict[str, Any]:
    """Return the path parameter of a key."""
    description = "The key."
    schema: dict[str, Any]
    if len(fields) == 1 and fields[0].python_type is int:
        schema = {"type": "integer"}
        if fields[0].minimum is not None:
            schema |= {"minimum": fields[0].minimum, "maximum": fields[0].maximum}
    elif len(fields) == 1 and fields[0].python_type in _KEY_FORMATS:
        schema = {"type": "string", "format": _KEY_FORMATS[fields[0].python_type]}
    else:
        schema = {"type": "string", "pattern": f"^{','.join(map(_key_pattern, fields))}$"}
        description += " ~XX stands for a byte of its UTF-8 text, a lone ~ for the empty text."
        if len(fields) > 1:
            description += f" Its parts are separated by commas: {', '.join(field.name for field in fields)}."
    return {"name": "pk", "in": "path", "required": True, "schema": schema, "description": description}


def _key_pattern(field: Field) -> str:
    if field.python_type is int:
        return "(0|-?[1-9][0-9]{0,8})"
    if field.choices is not None:
        return f"({'|'.join(re.escape(escape(str(choice))) for choice in field.choices)})"
    return _KEY_PATTERNS.get(field.python_type, "([A-Za-z0-9_@:-]|~(0[1-9A-F]|[1-7][0-9A-F]))+")


def header_parameter(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    """Return a request header as a parameter."""
    schema: dict[str, Any] = {"type": "string"}
    return {"name": name, "in": "header", "required": required, "schema": schema, "description": description}


def row_headers(*names: str) -> dict[str, Any]:
    """Return response headers by name."""
    return {name: _ROW_HEADERS[name] for name in names}


_ROW_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in (
        ("ETag", "The version of the row, for If-Match and If-None-Match."),
        ("Location", "The path of the new row, when one was created."),
        ("Content-Range", "Which rows these are, and of how many: `items 0-49/1234`, `/*` when not counted."),
        ("X-Total-Count", "How many rows there are, when counted."),
        ("Link", "Other pages: next, prev, first (RFC 8288)."),
    )
}
