"""Entity tags and preconditions (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from .resource import Resource

__all__ = ["etag_fields", "etag_of", "matches", "tag_of"]

_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')


def etag_fields(resource: Resource) -> tuple[str, ...]:
    """Names of the fields that make the ETag, whatever the client chose to read.

    Key and counter where the mapper counts versions (``version_id_col``), else every readable field and
    ``updated_at``: a timestamp alone misses the second change within its precision (a second on MariaDB).
    """
    if any(field.version for field in resource.version):
        return tuple(dict.fromkeys(field.name for field in (*resource.key, *resource.version)))
    return tuple(dict.fromkeys((*resource.readable, *(field.name for field in resource.version))))


def etag_of(resource: Resource, values: Sequence[Any]) -> str:
    """Return the strong ETag of a row, given the values of :func:`etag_fields`."""
    fields = (resource.fields[name] for name in etag_fields(resource))
    stable = [
        float(v) if f.python_type is float and isinstance(v, int) else v for f, v in zip(fields, values, strict=True)
    ]
    return tag_of(stable)


def tag_of(stable: list[Any]) -> str:
    """Return the strong ETag of values that are of one type each, whoever read them."""
    return f'"{hashlib.blake2b(repr(stable).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()}"'


def matches(header: str, tag: str, *, weak: bool) -> bool:
    """Whether an If-Match (strong) or If-None-Match (weak) header holds for the current ETag."""
    if header.strip() == "*":
        return True
    return any(f'"{found.group(2)}"' == tag and (weak or not found.group(1)) for found in _TAG.finditer(header))
