"""What OpenAPI says about each operation of a router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Body

from .components import body_component, row_component, selection_component
from .dialects.documentation import dialect_parameters, dialect_text, embed_parameters, with_dialect_problems
from .documentation import (
    Array,
    Envelope,
    Identified,
    LazyOperation,
    ResponseObject,
    answer_of,
    body_of,
    header_parameter,
    key_parameter,
    problems,
    row_headers,
)
from .operations.aggregate import FUNCTIONS, can_aggregate
from .operations.upsert import conflict_targets
from .query.names import RESERVED
from .query.openapi import query_parameters
from .resource import Resource
from .settings import RouterSettings

if TYPE_CHECKING:
    from .endpoints import Endpoints

__all__ = ["Describer", "Operation", "Schemas"]

_VERBS = {
    "group_by": "group by",
    "count": "count",
    "sum": "add up",
    "avg": "average",
    "min": "take the lowest of",
    "max": "take the highest of",
}

_IF_MATCH = "Change the row only while it has this ETag."
_CONDITION = "`If-Match` refuses it (412) unless the row has that ETag."
_PREFER = "`return=minimal` answers without a body."


@dataclass(frozen=True)
class Operation:
    """The documentation of one route; ``body`` is the annotation of its body, or None."""

    summary: str
    description: str
    status: int
    responses: dict[int | str, dict[str, Any]]
    extra: LazyOperation
    body: Any = None


class Schemas:
    """What the document says of the rows and bodies of one router, built when OpenAPI asks for it."""

    def __init__(self, settings: RouterSettings) -> None:
        self.settings = settings
        self.resource = settings.resource
        self._bodies: dict[str, Any] = {}

    def row(self) -> Any:
        """A whole row."""
        row = self.settings.read_schema or row_component(self.resource)
        identity = self.settings.identity
        return row if identity is None else Identified(row, identity.schema)

    def selection(self) -> Any:
        """A row of which ``fields=`` and ``include=`` chose parts."""
        return (self.row(), selection_component(self.resource))

    def write(self, kind: Any) -> Any:
        """The body of a create, update, replace or upsert."""
        given = self.settings.update_schema if kind == "Update" else self.settings.create_schema
        targets = conflict_targets(self.resource) if kind == "Upsert" else []
        extra = [name for fields in targets for name in fields]
        preset = [*(_owned(self.resource) if self.settings.scope_query else ()), *(extra if len(targets) > 1 else ())]
        if kind not in self._bodies:
            self._bodies[kind] = given or body_component(self.resource, kind, preset=preset, extra=extra)
        return self._bodies[kind]


def _owned(resource: Resource) -> list[str]:
    """Fields that ownership may set, so that a body may leave them out: foreign keys."""
    return [item.name for item in resource.creatable.values() if getattr(item.column, "foreign_keys", None)]


class Describer:
    """Describes the operations of one router."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.settings = endpoints.settings
        self.resource = endpoints.resource
        self.schemas: Schemas = endpoints.schemas
        self.name = endpoints.resource.name

    def describe(self, operation: str, *, guarded: bool) -> Operation:
        """Return the documentation of one operation; a ``guarded`` one may also answer 401 and 403."""
        found: Operation = getattr(self, f"_{operation}")()
        further = (401, 403, 500) if guarded else (500,)
        responses = {**found.responses, **problems(*further)}
        return replace(found, responses=with_dialect_problems(responses) if self.settings.dialects else responses)

    def _list(self) -> Operation:
        def rows() -> Any:
            array = [self.schemas.selection()]
            return Envelope(array) if self.settings.envelope else array

        ok = {
            "description": "A page of rows.",
            "model": answer_of(rows),
            "headers": row_headers("Content-Range", "X-Total-Count", "Link"),
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        }
        description = (
            "Filters are `column=value` or `column__operator=value`. `Accept: text/csv` and `application/x-ndjson` "
            "stream every row that the filter finds."
        )
        if self.settings.dialects:
            description += dialect_text(self.settings.dialects)
        extra = LazyOperation(lambda: {"parameters": self._list_parameters()})
        return Operation(f"List {self.name}", description, 200, {200: ResponseObject(ok), **problems(422, 503)}, extra)

    def _create(self) -> Operation:
        ok = {
            "description": "The new row, or the new rows in order.",
            "model": answer_of(lambda: (self.schemas.row(), [self.schemas.row()])),
            "headers": row_headers("Location", "ETag"),
        }
        responses = {201: ResponseObject(ok), **problems(409, 413, 415, 422, 503)}
        body = self._body(lambda: (self.schemas.write("Create"), self._array(self.schemas.write("Create"))))
        text = "One object, or an array of them in one transaction."
        return Operation(f"Create {self.name}", text, 201, responses, self._extra(prefer=True, body=True), body)

    def _read(self) -> Operation:
        ok = {
            "description": "The row.",
            "model": answer_of(self.schemas.selection),
            "headers": row_headers("ETag"),
        }
        unchanged = {"description": "The row still has the ETag of If-None-Match.", "headers": row_headers("ETag")}
        responses = {200: ResponseObject(ok), 304: ResponseObject(unchanged), **problems(404, 422, 503)}

        def build() -> dict[str, Any]:
            return {
                "parameters": [
                    key_parameter(self.resource.key),
                    _fields_parameter(self.resource),
                    *_include_parameter(self.resource),
                    *(embed_parameters(self.settings.dialects) if self.resource.relations else ()),
                ]
            }

        return Operation(
            f"Read {self.name}",
            "One row by its key. `If-None-Match` answers 304 while the row has that ETag.",
            200,
            responses,
            LazyOperation(build),
        )

    def _update(self) -> Operation:
        return self._change("Update", "Change the fields given; an explicit null applies.")

    def _replace(self) -> Operation:
        return self._change("Replace", "Set every field: those not given to their default, or to null.")

    def _delete(self) -> Operation:
        ok = {"description": "The row as it was.", "model": answer_of(self.schemas.row)}
        none = {"description": "Deleted; the client wanted no body."}
        responses = {
            200: ResponseObject(ok),
            204: ResponseObject(none),
            **problems(*self._match_statuses(404, 409, 412, 422, 503)),
        }
        text = f"Delete one row. {_CONDITION}"
        return Operation(f"Delete {self.name}", text, 200, responses, self._extra(key=True, match=True, prefer=True))

    def _upsert(self) -> Operation:
        ok = {
            "description": "The row, or the rows in the order of the request.",
            "model": answer_of(lambda: (self.schemas.row(), [self.schemas.row()])),
        }
        none = {"description": "Stored; the client wanted no body."}
        responses = {200: ResponseObject(ok), 204: ResponseObject(none), **problems(404, 409, 413, 415, 422, 503)}
        body = self._body(lambda: (self.schemas.write("Upsert"), self._array(self.schemas.write("Upsert"))))
        text = "Insert, or update the row that has the same values of `on_conflict`."

        def build() -> dict[str, Any]:
            targets = [",".join(names) for names in conflict_targets(self.resource)]
            parameter = {
                "name": "on_conflict",
                "in": "query",
                "required": len(targets) > 1,
                "schema": {"type": "string", "enum": targets},
                "description": "The key or unique constraint that tells whether a row is there already.",
            }
            extra = self._parameters(prefer=True)
            return {"requestBody": {"required": True}, "parameters": [parameter, *extra]}

        return Operation(f"Upsert {self.name}", text, 200, responses, LazyOperation(build), body)

    def _bulk_update(self) -> Operation:
        body = self._body(lambda: self.schemas.write("Update"))
        text = "Set the same values on every row that the filter finds."
        return self._bulk(f"Change many {self.name}", text, body)

    def _bulk_delete(self) -> Operation:
        return self._bulk(f"Delete many {self.name}", "Delete every row that the filter finds.", None)

    def _aggregate(self) -> Operation:
        ok = {
            "description": "One object per group.",
            "model": answer_of(lambda: {"type": "array", "items": {"type": "object"}}),
        }
        extra = LazyOperation(lambda: {"parameters": self._aggregate_parameters()})
        text = "Figures of groups: `count_x`, `sum_x`, `avg_x`, `min_x`, `max_x` and `count`."
        return Operation(f"Aggregate {self.name}", text, 200, {200: ResponseObject(ok), **problems(422, 503)}, extra)

    def _change(self, kind: str, text: str) -> Operation:
        ok = {
            "description": "The row as it is now.",
            "model": answer_of(self.schemas.row),
            "headers": row_headers("ETag"),
        }
        none = {"description": "Done; the client wanted no body.", "headers": row_headers("ETag")}
        statuses = self._match_statuses(404, 409, 412, 413, 415, 422, 503)
        text = f"{text} {_CONDITION}"
        body = self._body(lambda: self.schemas.write(kind))
        extra = self._extra(key=True, match=True, prefer=True, body=True)
        return Operation(
            f"{kind} {self.name}",
            text,
            200,
            {200: ResponseObject(ok), 204: ResponseObject(none), **problems(*statuses)},
            extra,
            body,
        )

    def _bulk(self, summary: str, text: str, body: Any) -> Operation:
        schema = {"type": "object", "properties": {"affected": {"type": "integer"}}, "required": ["affected"]}
        ok = {"description": "How many rows.", "model": answer_of(lambda: schema)}
        statuses = (409, 413, 415, 422, 503) if body is not None else (409, 422, 503)

        def build() -> dict[str, Any]:
            required = {"requestBody": {"required": True}} if body is not None else {}
            return {**required, "parameters": self._filter_parameters()}

        return Operation(
            summary, text, 200, {200: ResponseObject(ok), **problems(*statuses)}, LazyOperation(build), body
        )

    def _list_parameters(self) -> list[dict[str, Any]]:
        dialects, settings = self.settings.dialects, self.settings.query
        reserved = dict.fromkeys((*RESERVED, *(word for dialect in dialects for word in dialect.words)))
        found = query_parameters(self.resource, settings, reserved=tuple(reserved))
        return [*found, *dialect_parameters(dialects, settings, embeds=bool(self.resource.relations))]

    def _filter_parameters(self) -> list[dict[str, Any]]:
        return query_parameters(self.resource, self.settings.query, reserved=("q", "filter"))

    def _aggregate_parameters(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for function in ("group_by", *FUNCTIONS):
            kind = "count" if function == "group_by" else function
            names = [
                name for name, item in self.resource.filterable.items() if item.readable and can_aggregate(kind, item)
            ]
            if function == "count":
                names = ["*", *names]
            if names:
                found.append(_list_parameter(function, names, f"Columns to {_VERBS[function]}, separated by commas."))
        highest = self.settings.query.max_page_size
        limit = {"type": "integer", "minimum": 1, "maximum": highest, "default": highest}
        found.append({"name": "limit", "in": "query", "schema": limit, "description": "Groups to answer at most."})
        taken = {item["name"] for item in found}
        return [*found, *(item for item in self._filter_parameters() if item["name"] not in taken)]

    def _body(self, build: Any) -> Any:
        return Annotated[body_of(build), Body(default_factory=lambda: None)]

    def _array(self, model: Any) -> Any:
        return Array(model, self.settings.max_affected)

    def _match_statuses(self, *statuses: int) -> tuple[int, ...]:
        return (*statuses, 428) if self.settings.require_if_match else statuses

    def _extra(self, *, key: bool = False, match: bool = False, prefer: bool = False, body: bool = False) -> Any:
        def build() -> dict[str, Any]:
            found: dict[str, Any] = {"parameters": self._parameters(key=key, match=match, prefer=prefer)}
            if body:
                found["requestBody"] = {"required": True}
            return found

        return LazyOperation(build)

    def _parameters(self, *, key: bool = False, match: bool = False, prefer: bool = False) -> list[dict[str, Any]]:
        found = [key_parameter(self.resource.key)] if key else []
        if match and self.settings.require_if_match:
            found.append(header_parameter("If-Match", _IF_MATCH, required=True))
        return [*found, header_parameter("Prefer", _PREFER)] if prefer else found


def _list_parameter(name: str, names: Sequence[str], description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "schema": {"type": "array", "items": {"type": "string", "enum": list(names)}, "minItems": 1},
        "style": "form",
        "explode": False,
        "description": description,
    }


def _fields_parameter(resource: Resource) -> dict[str, Any]:
    return _list_parameter("fields", list(resource.readable), "The fields to answer, separated by commas.")


def _include_parameter(resource: Resource) -> list[dict[str, Any]]:
    if not resource.relations:
        return []
    names = list(resource.relations)
    text = f"Relations to include, separated by commas: {', '.join(names)}; also `a.b`."
    return [_list_parameter("include", names, text)]
