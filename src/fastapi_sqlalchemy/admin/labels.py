"""Which columns name a row for people: ``AC/DC`` instead of ``Artist 1``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..exceptions import ConfigurationError
from ..rest.fields import Field
from ..rest.query.kinds import Kind, kind_of
from ..rest.resource import Resource

__all__ = ["label_fields", "label_of", "title_of"]

_NAMES = ("name", "fullname", "displayname", "title", "label", "username", "login", "email", "slug", "code", "subject")
_PEOPLE = (("firstname", "lastname"), ("givenname", "familyname"), ("forename", "surname"))
_LONGEST = 255
_WORDS = re.compile(r"[^0-9a-z]")


def label_fields(resource: Resource, given: str | Iterable[str] | None = None) -> tuple[Field, ...]:
    """Return the fields that name a row: those given, else by their names, else none (the key does).

    Raises `ConfigurationError` for a field that is not there or not to be shown.
    """
    if given is not None:
        names = [given] if isinstance(given, str) else list(given)
        unknown = [name for name in names if name not in resource.readable]
        if unknown:
            raise ConfigurationError(
                f"{resource.name} has no field {unknown[0]!r} to label its rows with; it has: "
                f"{', '.join(sorted(resource.readable))}."
            )
        return tuple(resource.readable[name] for name in names)
    texts = {_plain(item.name): item for item in resource.readable.values() if _names_rows(item)}
    own = _plain(resource.name)
    for first, last in _PEOPLE:
        if first in texts and last in texts:
            return (texts[first], texts[last])
    for name in _NAMES:
        for candidate in (name, own + name):
            if candidate in texts:
                return (texts[candidate],)
    for word in ("name", "title"):
        for plain, item in texts.items():
            if plain.endswith(word):
                return (item,)
    return tuple(texts.values())[:1]


def label_of(resource_title: str, key: str, values: Sequence[Any]) -> str:
    """Return the label of a row: the values of its label fields, else the name of its table and its key."""
    text = " ".join(str(value) for value in values if value not in (None, ""))
    return text if text.strip() else f"{resource_title} {key}".strip()


def title_of(name: str) -> str:
    """Return the name of a table, model or column as a heading."""
    text = name.replace("_", " ").strip() or name
    return text[:1].upper() + text[1:]


def _names_rows(item: Field) -> bool:
    foreign = any(getattr(column, "foreign_keys", None) for column in item.columns)
    short = item.max_length is None or item.max_length <= _LONGEST
    return kind_of(item) is Kind.TEXT and not item.primary_key and not foreign and short


def _plain(name: str) -> str:
    return _WORDS.sub("", name.lower())
