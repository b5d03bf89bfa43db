"""The query grammar as OpenAPI parameters: one for each column and operator, then the reserved ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..fields import Field
from ..resource import Resource
from .kinds import PATTERNS, Kind, is_searchable, is_sortable, kind_of, operators_of
from .lists import LISTS
from .names import RESERVED
from .patterns import MAX_LENGTH, MAX_WILDCARDS
from .settings import DEFAULTS, QuerySettings
from .values import INT64, MAX_TEXT

__all__ = ["MAX_PARAMETERS", "query_parameters"]

MAX_PARAMETERS = 300
"""Parameters that one route declares at most; those of wide tables are then declared for equality alone."""

Schema = dict[str, Any]

_TEXT = r"^[^\u0000]*$"
_BASE64 = r"^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2}|[A-Za-z0-9_-]{3})?$"
_DURATION = r"^-?P(?:[0-9]{1,5}D(?:T[0-9]{1,5}H)?|T(?:[0-9]{1,5}H)?[0-9]{1,5}(?:\.[0-9]{1,6})?S)$"
_MEANINGS = {
    "eq": "equals",
    "ne": "differs from",
    "gt": "is greater than",
    "gte": "is at least",
    "lt": "is less than",
    "lte": "is at most",
    "in": "is one of (comma separated or repeated; a backslash before a comma keeps it)",
    "not_in": "is none of (comma separated or repeated; a backslash before a comma keeps it)",
    "between": "is between two values, both included",
    "like": "matches a pattern: % any text, _ one character, a backslash makes the next plain",
    "ilike": "matches a pattern, whatever the case: % any text, _ one character",
    "contains": "contains",
    "icontains": "contains, whatever the case",
    "startswith": "starts with",
    "endswith": "ends with",
    "isnull": "is NULL (true) or is not (false)",
}


def query_parameters(
    resource: Resource,
    settings: QuerySettings = DEFAULTS,
    *,
    reserved: Sequence[str] = RESERVED,
    maximum: int = MAX_PARAMETERS,
) -> list[dict[str, Any]]:
    """Return OpenAPI 3.1 parameter objects for what :func:`parse_query` takes with the same ``reserved``.

    A name that is too many for ``maximum`` stays usable and is left out of the document: first the operators of wide
    tables, then their last columns.
    """
    own = list(_reserved(resource, settings, reserved))
    room = max(0, maximum - len(own))
    full = [_filter(field, op, settings, reserved) for field, op in _pairs(resource)]
    if len(full) > room:
        full = [
            _filter(field, op, settings, reserved)
            for field, op in _pairs(resource)
            if op == "eq" or operators_of(field) == ("isnull",)
        ]
    related = [
        _related(name, field, settings)
        for name, relation in resource.relations.items()
        for field in relation.target.filterable.values()
        if "eq" in operators_of(field)
    ][: settings.max_relations]
    if len(full) + len(related) <= room:
        full += related
    return [*full[:room], *own]


def _pairs(resource: Resource) -> Iterator[tuple[Field, str]]:
    for field in resource.filterable.values():
        for op in operators_of(field):
            yield field, op


def _filter(field: Field, op: str, settings: QuerySettings, reserved: Sequence[str]) -> dict[str, Any]:
    plain = f"{field.name}.eq" if field.name in reserved else field.name
    name = plain if op == "eq" else f"{field.name}__{op}"
    return _parameter(name, _operand(field, op, settings), f"{field.name} {_MEANINGS[op]}.")


def _related(name: str, field: Field, settings: QuerySettings) -> dict[str, Any]:
    text = f"There is a related row whose {field.name} equals; other operators as for columns."
    return _parameter(f"{name}.{field.name}", _operand(field, "eq", settings), text)


def _parameter(name: str, schema: Schema, description: str, **more: Any) -> dict[str, Any]:
    found = {"name": name, "in": "query", "required": False, "description": description, "schema": schema, **more}
    if schema.get("type") == "array":
        found |= {"style": "form", "explode": False}
    return found


def _operand(field: Field, op: str, settings: QuerySettings) -> Schema:
    if op == "isnull":
        return {"type": "boolean"}
    if op in PATTERNS:
        return _pattern(op)
    schema = value_schema(field)
    if op == "between":
        return {"type": "array", "items": _item(schema), "minItems": 2, "maxItems": 2}
    if op in LISTS:
        return {"type": "array", "items": _item(schema), "minItems": 1, "maxItems": settings.max_values}
    return schema


def _item(schema: Schema) -> Schema:
    """A text in a list: a comma or a backslash would have a meaning of its own."""
    if schema.get("pattern") == _TEXT:
        return {**schema, "pattern": r"^[^\u0000,\\]*$"}
    if "enum" in schema:
        return {"enum": [_escaped(item) if isinstance(item, str) else item for item in schema["enum"]]}
    return schema


def _pattern(op: str) -> Schema:
    if op in ("like", "ilike"):
        wild = rf"^(?:[^\u0000\\%]|%[^\u0000\\%]){{0,{MAX_WILDCARDS}}}$"
        return {"type": "string", "maxLength": MAX_LENGTH, "pattern": wild}
    return {"type": "string", "maxLength": MAX_LENGTH, "pattern": _TEXT}


def value_schema(field: Field) -> Schema:
    """Return the JSON schema of one value that the field is compared with, in a query string."""
    kind = kind_of(field)
    if kind in (Kind.TEXT, Kind.OPAQUE):
        return {"type": "string", "maxLength": min(field.max_length or MAX_TEXT, MAX_TEXT), "pattern": _TEXT}
    if kind is Kind.INTEGER:
        low = INT64[0] if field.minimum is None else field.minimum
        high = INT64[1] if field.maximum is None else field.maximum
        return {"type": "integer", "minimum": low, "maximum": high}
    if kind is Kind.FLOAT:
        return {"type": "number", "minimum": -1e38, "maximum": 1e38}
    if kind is Kind.DECIMAL:
        return {"type": "string", "pattern": _decimal_pattern(field)}
    if kind is Kind.BOOLEAN:
        return {"type": "boolean"}
    if kind is Kind.DATE:
        return {"type": "string", "format": "date"}
    if kind is Kind.DATETIME:
        return {"type": "string", "format": "date-time"}
    if kind is Kind.TIME:
        return {"type": "string", "pattern": r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?$"}
    if kind is Kind.INTERVAL:
        return {"type": "string", "pattern": _DURATION, "examples": ["P1DT2H", "PT0.5S"]}
    if kind is Kind.UUID:
        return {"type": "string", "format": "uuid"}
    if kind is Kind.ENUM:
        return {"enum": list(field.choices or ())}
    longest = {} if field.max_length is None else {"maxLength": field.max_length // 3 * 4}
    return {"type": "string", "contentEncoding": "base64", "pattern": _BASE64, **longest}


def _decimal_pattern(field: Field) -> str:
    before, after = 35, 30
    if field.precision is not None and field.scale is not None:
        before, after = field.precision - field.scale, max(field.scale, 0)
    whole = rf"[0-9]{{1,{before}}}" if before > 0 else "0"
    return rf"^-?{whole}(?:\.[0-9]{{1,{after}}})?$" if after else rf"^-?{whole}$"


def _reserved(resource: Resource, settings: QuerySettings, reserved: Sequence[str]) -> Iterator[dict[str, Any]]:
    sortable = [field.name for field in resource.fields.values() if is_sortable(field)]
    relations = list(resource.relations)
    some = {"minItems": 1, "maxItems": settings.max_includes}
    whole: dict[str, tuple[Schema, str] | None] = {
        "q": (
            {"type": "string", "maxLength": 200, "pattern": _TEXT},
            "A text that one of the columns of text contains, whatever the case.",
        )
        if any(is_searchable(field) for field in resource.fields.values())
        else None,
        "sort": (
            {
                "type": "array",
                "items": {"type": "string", "pattern": _sort_pattern(sortable)},
                "minItems": 1,
                "maxItems": settings.max_sort,
            },
            f"Columns, comma separated, at most {settings.max_sort}; - before one sorts it downwards; .nullsfirst or "
            ".nullslast after one places NULL, which comes last otherwise.",
        )
        if sortable
        else None,
        "limit": (
            {"type": "integer", "minimum": 1, "maximum": settings.max_page_size, "default": settings.page_size},
            "Rows of a page.",
        ),
        "offset": (
            {"type": "integer", "minimum": 0, "maximum": settings.max_offset},
            "Rows to skip; not together with cursor.",
        ),
        "cursor": (
            {"type": "string", "maxLength": 0},
            "Empty starts a walk by cursor; then follow the links: what they hold here is opaque.",
        )
        if resource.key
        else None,
        "fields": (
            {"type": "array", "items": {"enum": [_escaped(name) for name in resource.readable]}, "minItems": 1},
            "The fields to answer.",
        ),
        "include": (
            {"type": "array", "items": {"enum": [_escaped(name) for name in relations]}, **some},
            f"Relations to include, dots between two, at most {settings.max_include_depth} deep.",
        )
        if relations
        else None,
        "count": (
            {"enum": ["exact", "estimated", "none"], "default": settings.count},
            "Whether the rows are counted, for Content-Range and X-Total-Count.",
        ),
    }
    for name, found in whole.items():
        if name in reserved and found is not None:
            yield _parameter(name, *found)
    if "filter" in reserved:
        text = (
            'Conditions as JSON: {"or": [{"age__lt": 18}, {"not": {"city": "Rome"}}]}; names as in the query string, '
            "and, or, not, q, and a relation with an object that one related row has to meet."
        )
        names = {field.name: _json_schema(field) for field in resource.filterable.values()}
        schema: Schema = {"type": "object", "properties": names, "additionalProperties": False}
        yield {
            "name": "filter",
            "in": "query",
            "required": False,
            "description": text,
            "content": {"application/json": {"schema": schema}},
        }


def _sort_pattern(names: Sequence[str]) -> str:
    return rf"^-?(?:{'|'.join(re.escape(_escaped(name)) for name in names)})(?:\.nulls(?:first|last))?$"


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace(",", "\\,")


def _json_schema(field: Field) -> Schema:
    """The schema of ``{"column": value}``: null asks for NULL."""
    if "eq" not in operators_of(field):
        return {"type": "null"}
    schema = value_schema(field)
    return {"enum": [*schema["enum"], None]} if "enum" in schema else {**schema, "type": [schema["type"], "null"]}
