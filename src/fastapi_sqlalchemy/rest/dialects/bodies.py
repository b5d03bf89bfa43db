"""Bodies of clients that send back a whole row: what a change does not take of it is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel

from ..keys import KeyNotFoundError, MalformedKeyError, decode_key
from ..query.errors import InvalidValueError
from ..query.values import Number, parse_json
from ..resource import Resource
from ..schemas import body_members
from ..settings import RouterSettings
from .identity import ID
from .members import joined_members, split_members

__all__ = ["ReturnedRow"]


class ReturnedRow:
    """Leaves members of a row out of a body: those that a client has read and the operation does not set.

    A member that the row does not have stays, and so does a key that is not that of the path: the router refuses them.
    """

    def __init__(self, settings: RouterSettings, kind: Literal["Create", "Update"]) -> None:
        self._settings = settings
        self._resource = settings.resource
        self._kind: Literal["Create", "Update"] = kind
        self._dropped: frozenset[str] | None = None

    def strip(self, raw: bytes, segment: str | None) -> bytes:
        """Return a body without such members; ``segment`` is the key in the path, None for a new row."""
        try:
            members = split_members(raw.decode())
        except UnicodeDecodeError:
            return raw
        if members is None:
            return raw
        kept = [(name, value) for name, value in members if not self._is_dropped(name, value, segment)]
        return raw if len(kept) == len(members) else joined_members(kept).encode()

    def _is_dropped(self, name: str, value: str, segment: str | None) -> bool:
        if self._dropped is None:  # relations may be declared after the router
            shown = set(_shown(self._resource, self._settings))
            self._dropped = frozenset(shown - set(_taken(self._resource, self._settings, self._kind)))
        if name not in self._dropped:
            return False
        key = self._resource.key
        if name != ID and all(item.name != name for item in key):
            return True
        return segment is not None and self._is_key(name, value, segment)

    def _is_key(self, name: str, value: str, segment: str) -> bool:
        """Whether a member repeats the key of the path, or its part."""
        key = self._resource.key
        try:
            wanted = decode_key(key, segment)
            found = json.loads(value, parse_int=Number, parse_float=Number)
            for item, part in zip(key, wanted, strict=True):
                if item.name == name:
                    return bool(parse_json(item, "eq", found) == part)
            identity = self._settings.identity
            if identity is None or identity.column is None:
                return bool(decode_key(key, str(found)) == wanted)
            return bool(parse_json(key[0], "eq", found) == wanted[0])
        except (MalformedKeyError, KeyNotFoundError, InvalidValueError, ValueError, RecursionError):
            return False


def _shown(resource: Resource, settings: RouterSettings) -> Iterator[str]:
    """The names of a row as it is answered."""
    yield from resource.readable
    yield from resource.relations
    if settings.identity is not None:
        yield ID
    if settings.read_schema is not None:
        for name, info in settings.read_schema.model_fields.items():
            yield info.serialization_alias or info.alias or name
        for name, computed in settings.read_schema.model_computed_fields.items():
            yield computed.alias or name


def _taken(resource: Resource, settings: RouterSettings, kind: Literal["Create", "Update"]) -> Iterator[str]:
    """The names that a body may have."""
    schema: type[BaseModel] | None = settings.update_schema if kind == "Update" else settings.create_schema
    if schema is None:
        yield from (member.field.name for member in body_members(resource, kind))
        return
    for name, info in schema.model_fields.items():
        aliases: tuple[Any, ...] = (name, info.alias, info.validation_alias)
        yield from (alias for alias in aliases if isinstance(alias, str))
