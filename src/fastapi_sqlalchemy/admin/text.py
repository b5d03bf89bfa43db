"""Values of columns as people read them and as a form holds them, and what a form says as JSON."""

from __future__ import annotations

import datetime as dt
import enum
import json
from typing import Any

from ..rest.fields import Field
from ..rest.narrowing import is_binary, is_items, is_mapping
from ..rest.query.kinds import Kind, kind_of
from ..rest.serialize import dump_json, plain

__all__ = ["UnreadableError", "display", "form_text", "json_value"]


class UnreadableError(ValueError):
    """What was typed is no value of the column; the message says what is."""


def display(value: Any) -> str | None:
    """Return a value as a page shows it; None is NULL."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if is_binary(value):
        return f"{len(value):,} bytes"
    if isinstance(value, dt.datetime):
        return value.isoformat(" ")
    if isinstance(value, enum.Enum):
        return display(value.value)
    if is_mapping(value) or is_items(value) or isinstance(value, (set, frozenset)):
        return dump_json(value).decode("utf-8", "replace")
    return str(plain(value))


def form_text(item: Field, value: Any) -> str:
    """Return a value as the control of a form holds it; empty is NULL."""
    if value is None:
        return ""
    if kind_of(item) is Kind.BYTES or is_binary(value):
        return str(plain(value))
    if isinstance(value, (dict, list, tuple, set, frozenset)) or kind_of(item) is Kind.JSON:
        return json.dumps(json.loads(dump_json(value)), indent=2, ensure_ascii=False)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return display(value) or ""


def json_value(item: Field, text: str) -> Any:
    """Return what was typed as the JSON that the body of a REST request would have; raises `UnreadableError`."""
    kind = kind_of(item)
    if kind is Kind.JSON or item.python_type in (dict, list):
        return _json(text)
    stripped = text.strip()
    if kind is Kind.BOOLEAN:
        if stripped.lower() in ("true", "on", "1", "yes"):
            return True
        if stripped.lower() in ("false", "off", "0", "no"):
            return False
        raise UnreadableError("Choose true or false.")
    if kind is Kind.INTEGER:
        try:
            return int(stripped) if len(stripped) <= 40 else stripped
        except ValueError:
            raise UnreadableError("Enter a whole number.") from None
    if kind is Kind.FLOAT:
        try:
            return float(stripped)
        except ValueError:
            raise UnreadableError("Enter a number.") from None
    if kind is Kind.ENUM and item.choices is not None:
        for choice in item.choices:
            if str(choice) == text:
                return choice
        raise UnreadableError("Choose one of the list.")
    return text if kind is Kind.TEXT else stripped


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UnreadableError("Enter valid JSON.") from None
