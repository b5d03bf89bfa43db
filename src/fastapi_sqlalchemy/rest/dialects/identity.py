"""The ``id`` of a row, as clients need it that know no other key."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ...exceptions import ConfigurationError
from ..keys import KeyNotFoundError, MalformedKeyError, decode_key, encode_key
from ..narrowing import is_dict
from ..query.errors import InvalidValueError
from ..resource import Resource
from ..serialize import dump_json
from .members import joined_members

__all__ = ["ID", "Identity", "identity_of"]

ID = "id"
_SAME = (int, str, uuid.UUID)


@dataclass(frozen=True)
class Identity:
    """A member ``id`` that the rows of a resource get, whose key is another.

    It is the value of a key that is one number, text or UUID, so that it equals the foreign keys that point there; for
    every other key it is the key as a path has it.
    """

    resource: Resource

    @property
    def column(self) -> str | None:
        """The key that a filter or an order by ``id`` is about; None where the key has to be read from the text."""
        key = self.resource.key
        return key[0].name if len(key) == 1 and key[0].python_type in _SAME else None

    def add(self, rows: Sequence[dict[str, Any]], shaped: Sequence[Any]) -> list[Any]:
        """Return objects with the ``id`` of the rows that they show, unless they have one of their own.

        A row that a hook has taken its key from gets none.
        """
        names = [item.name for item in self.resource.key]
        return [
            {ID: self._of([row[name] for name in names]), **item}
            if is_dict(item) and ID not in item and is_dict(row) and all(name in row for name in names)
            else item
            for row, item in zip(rows, shaped, strict=True)
        ]

    def _of(self, key: Sequence[Any]) -> Any:
        return encode_key(key) if self.column is None else key[0]

    def condition(self, texts: Sequence[str]) -> str:
        """Return the JSON filter that finds the rows of these ids, which are keys as a path has them.

        Keys that differ in their last part alone are one condition. Raises :class:`InvalidValueError` for what is no
        key.
        """
        key = self.resource.key
        groups: dict[tuple[str, ...], list[str]] = {}
        for text in texts:
            try:
                parts = [_json(value) for value in decode_key(key, text)]
            except MalformedKeyError as error:
                raise InvalidValueError(f"is no key: {error}") from None
            except KeyNotFoundError:
                continue
            groups.setdefault(tuple(parts[:-1]), []).append(parts[-1])
        if not groups:
            return self._nothing
        found: list[str] = []
        for first, last in groups.items():
            members = [(f"{item.name}__eq", value) for item, value in zip(key, first, strict=False)]
            found.append(joined_members([*members, (f"{key[-1].name}__in", f"[{','.join(last)}]")]))
        return f'{{"or":[{",".join(found)}]}}'

    @property
    def _nothing(self) -> str:
        """The filter that no row meets: of a key that is and is not NULL."""
        name = json.dumps(f"{self.resource.key[0].name}__isnull")
        return f'{{"and":[{{{name}:true}},{{{name}:false}}]}}'

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the ``id``."""
        kind = self.resource.key[0].python_type if self.column is not None else str
        schema: dict[str, Any] = {"type": "integer" if kind is int else "string"}
        return {**schema, "description": "The key, under the name that clients of a dialect look for."}


def _json(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else dump_json(value).decode()


def identity_of(resource: Resource, read_schema: type[BaseModel] | None = None) -> Identity | None:
    """Return the identity that the rows of a resource need; None where their key is the column ``id``.

    Raises ``ConfigurationError`` where they have no key to make it of, or an ``id`` that is something else.
    """
    if not resource.key:
        raise ConfigurationError(
            f"{resource.name} has no key that may be read, and the clients of a dialect find rows by theirs. Give it "
            "a key, or leave dialects= out."
        )
    if [item.name for item in resource.key] == [ID]:
        return None
    item = resource.fields.get(ID)
    if item is not None and (item.readable or item.filterable or item.writable or item.updatable):
        raise ConfigurationError(
            f"{resource.name}.id is not its key, and the clients of a dialect take it for that. Map the column under "
            'another name, leave it out with exclude=("id",), or leave dialects= out.'
        )
    hidden = [item.name for item in resource.key if not resource.fields[item.name].readable]
    if hidden and (read_schema is None or ID not in read_schema.model_fields):
        raise ConfigurationError(
            f"The read_schema of {resource.name} leaves out its key ({', '.join(hidden)}), which the clients of a "
            "dialect find rows by. Put it in."
        )
    return Identity(resource)
