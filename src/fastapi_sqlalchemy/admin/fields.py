"""Columns and relations of a resource as fields of starlette-admin: how they are shown, typed in and read back."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette_admin.fields import HasOne, StringField
from starlette_admin.helpers import html_params

from ..rest.fields import Field
from ..rest.keys import KeyNotFoundError, MalformedKeyError, decode_key
from ..rest.query.kinds import Kind, is_sortable, kind_of
from ..rest.serialize import dump_json
from .filters import column_filters, link_filters
from .labels import title_of
from .rows import Linked, Row
from .text import UnreadableError, display, form_text, json_value

__all__ = ["MISSING", "ColumnField", "LinkField"]

MISSING: Any = object()
"""What a form left to the default of the column."""

_LINE = 255
_IN_LIST = 200
_MOMENT = {
    Kind.DATETIME: ("datetime-local", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")),
    Kind.DATE: ("date", re.compile(r"\d{4}-\d\d-\d\d")),
    Kind.TIME: ("time", re.compile(r"\d\d:\d\d(:\d\d)?")),
}
_HINTS = {
    Kind.BYTES: "In base64.",
    Kind.INTERVAL: "Such as P1DT2H30M (ISO 8601).",
    Kind.JSON: "JSON.",
}


class ColumnField(StringField):
    """One column. ``name`` is safe in URLs and scripts, whatever the column is called."""

    def __init__(self, name: str, item: Field) -> None:
        self.item = item
        self.kind = kind_of(item)
        self.is_long = item.is_text and (item.max_length is None or item.max_length > _LINE)
        self.is_document = self.kind is Kind.JSON or item.python_type in (dict, list)
        hint = _HINTS.get(self.kind)
        if self.kind is Kind.DATETIME and item.timezone:
            hint = "With its offset, such as 2026-01-31T13:45:00+01:00."
        super().__init__(
            name=name,
            label=title_of(item.name),
            help_text=" ".join(part for part in (item.doc, hint) if part) or None,
            maxlength=item.max_length if item.is_text else None,
            required=item.required,
            filters=column_filters(item),
            orderable=is_sortable(item),
            exclude_from_create=not item.writable,
            exclude_from_edit=not item.updatable or self.kind is Kind.BYTES,
            exclude_from_import=True,
            list_template="admin/boolean.html" if self.kind is Kind.BOOLEAN else "fields/list/text.html",
            detail_template=self._detail_template(),
            form_template=self._form_template(),
        )
        self.class_ = "form-control"

    @property
    def columns(self) -> tuple[Field, ...]:
        """The columns of an export."""
        return (self.item,)

    @property
    def is_switch(self) -> bool:
        """Whether the value is on or off and nothing else."""
        return self.kind is Kind.BOOLEAN and not self.item.nullable

    @property
    def choices(self) -> list[tuple[str, str]]:
        """The values of a list to choose from, with their labels."""
        if self.kind is Kind.BOOLEAN:
            return [("true", "true"), ("false", "false")]
        return [(str(choice), str(choice)) for choice in self.item.choices or ()]

    def input_type_of(self, text: str | None) -> str:
        """Return the type of the control: the browser's own picker where it can hold the value as it is."""
        found = _MOMENT.get(self.kind)
        if found is None or self.item.timezone:
            return "text"
        return found[0] if not text or found[1].fullmatch(text) else "text"

    def input_params(self) -> str:
        """Return the attributes of the control; what is required is said by the label and checked here."""
        numeric = {Kind.INTEGER: "numeric", Kind.FLOAT: "decimal", Kind.DECIMAL: "decimal"}.get(self.kind)
        return html_params({"maxlength": self.maxlength, "inputmode": numeric, "autocomplete": "off"})

    async def validate(self, request: Request, value: Any, form_values: dict[str, Any]) -> None:
        """Leave the checks to the view, which knows the row as it is."""

    async def parse_form_data(self, request: Request, form_data: FormData) -> str | None:
        """Return what was typed, with the line ends that browsers change put back."""
        raw = form_data.get(self.id)
        if self.is_switch:
            return "true" if raw else "false"
        return raw.replace("\r\n", "\n") if isinstance(raw, str) else None

    def cell(self, row: Row) -> Any:
        """Return the value for a list."""
        value = row.values.get(self.item.name)
        if self.kind is Kind.BOOLEAN and isinstance(value, bool):
            return value
        text = display(value)
        return text if text is None or len(text) <= _IN_LIST else f"{text[:_IN_LIST]}..."

    def whole(self, row: Row) -> Any:
        """Return the value for the page of the row."""
        value = row.values.get(self.item.name)
        if self.is_document and value is not None:
            return form_text(self.item, value)
        return value if self.kind is Kind.BOOLEAN and isinstance(value, bool) else display(value)

    def control(self, row: Row) -> Any:
        """Return the value for a form."""
        value = row.values.get(self.item.name)
        return bool(value) if self.is_switch else form_text(self.item, value)

    def typed(self, text: str | None) -> Any:
        """Return what was typed into an empty form as JSON, or `MISSING`; raises `UnreadableError`."""
        if text is None or (text == "" and not self.item.required):
            return MISSING
        if text == "":
            raise UnreadableError("This field is required.")
        return json_value(self.item, text)

    def changed(self, text: str | None, row: Row) -> Any:
        """Return what was typed over the value of a row as JSON, or `MISSING` where it is still the same."""
        before = form_text(self.item, row.values.get(self.item.name))
        if text is None or text == before.replace("\r\n", "\n"):
            return MISSING
        if text == "" and self.item.nullable:
            return None
        if text == "" and self.kind not in (Kind.TEXT, Kind.OPAQUE):
            raise UnreadableError("This field is required.")
        value = json_value(self.item, text)
        return MISSING if self._means_the_same(value, row.values.get(self.item.name)) else value

    def _means_the_same(self, value: Any, current: Any) -> bool:
        """Whether a picker or a format only wrote the same value in another way."""
        if self.is_document:
            return bool(value == json.loads(dump_json(current)))
        if isinstance(current, (dt.datetime, dt.time)) and isinstance(value, str):
            try:
                return type(current).fromisoformat(value) == current
            except (ValueError, TypeError):
                return False
        return False

    def _detail_template(self) -> str:
        if self.kind is Kind.BOOLEAN:
            return "admin/boolean.html"
        return "fields/detail/textarea.html" if self.is_long or self.is_document else "fields/detail/text.html"

    def _form_template(self) -> str:
        if self.is_switch:
            return "fields/form/boolean.html"
        if self.kind is Kind.BOOLEAN or self.item.choices is not None:
            return "admin/select.html"
        return "fields/form/textarea.html" if self.is_long or self.is_document else "admin/input.html"


class LinkField(HasOne):
    """A relation to one row, shown by its label and chosen by it.

    ``replaces`` tells that it stands for its only column, so that a form can set it.
    """

    def __init__(self, name: str, linked: Linked, key: str, *, replaces: bool) -> None:
        self.linked = linked
        self.item = linked.fields[0]
        self.replaces = replaces
        settable = replaces and self.item.writable
        super().__init__(
            name=name,
            label=title_of(self.item.name if replaces and "_by_" in linked.relation.name else linked.relation.name),
            key=key,
            help_text=linked.relation.doc,
            required=self.item.required,
            filters=link_filters(linked),
            orderable=False,
            exclude_from_create=not settable,
            exclude_from_edit=not (settable and self.item.updatable),
            exclude_from_import=True,
        )

    @property
    def columns(self) -> tuple[Field, ...]:
        """The columns of an export: none where they have fields of their own."""
        return self.linked.fields if self.replaces else ()

    async def validate(self, request: Request, value: Any, form_values: dict[str, Any]) -> None:
        """Leave the checks to the view."""

    def cell(self, row: Row) -> Any:
        """Return the other row as the templates want it."""
        link = row.links.get(self.linked.relation.name)
        return None if link is None else {"_key": link.key, "_meta": {"repr": link.label}}

    whole = cell

    def control(self, row: Row) -> Any:
        """Return the key of the other row."""
        link = row.links.get(self.linked.relation.name)
        return None if link is None else link.key

    def typed(self, text: str | None) -> Any:
        """Return the value of the column as JSON, or `MISSING`; raises `UnreadableError`."""
        if not text and self.item.required:
            raise UnreadableError("This field is required.")
        return self._value(text) if text else MISSING

    def changed(self, text: str | None, row: Row) -> Any:
        """Return the new value of the column as JSON, or `MISSING` where it is still the same."""
        before = self.control(row) or ""
        if (text or "") == before:
            return MISSING
        if not text and not self.item.nullable:
            raise UnreadableError("This field is required.")
        return self._value(text) if text else None

    def _value(self, text: str) -> Any:
        try:
            (value,) = decode_key(self.linked.relation.target.key, text)
        except (MalformedKeyError, KeyNotFoundError):
            raise UnreadableError("Choose a row of the list.") from None
        return json.loads(dump_json(value))
