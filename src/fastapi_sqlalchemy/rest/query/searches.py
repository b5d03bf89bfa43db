"""Searches that only some databases have: regular expressions, full text, members of arrays and of JSON.

No parameter of a list names them; a dialect of another client may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..fields import Field
from ..narrowing import is_array
from .errors import InvalidValueError
from .kinds import Kind, base_type, kind_of
from .values import check_text

if TYPE_CHECKING:
    from .expressions import Take
    from .operands import Family

__all__ = ["SEARCHES", "check_search", "is_for", "searched"]

Expression = sa.ColumnElement[Any]

SEARCHES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("match", "imatch"), ("postgresql", "mysql")),
    **dict.fromkeys(("fts", "plfts", "phfts", "wfts", "cs", "cd", "ov"), ("postgresql",)),
}
"""The databases that have each search."""

_QUERIES: Final[dict[str, Callable[..., Any]]] = {
    "fts": sa.func.to_tsquery,
    "plfts": sa.func.plainto_tsquery,
    "phfts": sa.func.phraseto_tsquery,
    "wfts": sa.func.websearch_to_tsquery,
}
_MEMBERS: Final = {"cs": "@>", "cd": "<@", "ov": "&&"}
_TEXT: Final = sa.Text()
_LONGEST: Final = 1_000


def is_for(field: Field, operator: str) -> bool:
    """Whether a search is one for columns of this type."""
    base = base_type(field)
    if operator in ("match", "imatch"):
        return kind_of(field) is Kind.TEXT
    if operator in _QUERIES:
        return kind_of(field) in (Kind.TEXT, Kind.OPAQUE)
    return is_array(base) or (operator != "ov" and isinstance(base, sa.JSON))


def check_search(text: str) -> str:
    """Return what is searched for; raises :class:`InvalidValueError`."""
    check_text(text, _LONGEST)
    if not text:
        raise InvalidValueError("must not be empty", "string_too_short")
    return text


def searched(
    column: Expression, field: Field, operator: str, take: Take, family: Family, *, configured: bool
) -> sa.ColumnElement[bool]:
    """Return the condition of a search; a ``configured`` one has the name of a configuration before its text."""
    if operator in _MEMBERS:
        base = base_type(field)
        is_json = isinstance(base, sa.JSON)
        kind = postgresql.JSONB() if is_json else _array_type(base)
        stored: Expression = sa.cast(column, kind) if is_json else sa.type_coerce(column, sa.types.NullType())
        return stored.op(_MEMBERS[operator], is_comparison=True)(sa.cast(take(_TEXT), kind))
    if operator in _QUERIES:
        settings = [sa.cast(take(_TEXT), postgresql.REGCONFIG)] if configured else []
        words = column  # of the type tsvector, which has no Python form
        if kind_of(field) is Kind.TEXT:
            words = sa.func.to_tsvector(*settings, sa.cast(column, _TEXT))
        return words.op("@@", is_comparison=True)(_QUERIES[operator](*settings, take(_TEXT)))
    if family == "postgresql":
        text = sa.cast(column, _TEXT)
        return text.op("~" if operator == "match" else "~*", is_comparison=True)(take(_TEXT))
    converted: Expression = sa.func.convert(column.op("USING")(sa.literal_column("utf8mb4")), type_=_TEXT)
    folded = sa.collate(converted, "utf8mb4_bin" if operator == "match" else "utf8mb4_general_ci")
    return folded.op("REGEXP", is_comparison=True)(take(_TEXT))


def _array_type(base: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """The type of an array as it is stored; items that have no Python form are read as text."""
    stored = getattr(base, "stored", None)
    return base if stored is None else postgresql.ARRAY(stored)
