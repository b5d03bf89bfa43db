"""Values told apart as the database does: exactly where that is certain, else it is asked itself."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

__all__ = ["ASKED_AT_ONCE", "alike", "equal", "may_be_alike"]

ASKED_AT_ONCE = 50
"""How many values one statement compares with what is stored."""

Values = tuple[Any, ...]


def alike(values: Values) -> Values:
    """Return what values have in common that a collation may take for one; others may have it in common too."""
    return tuple(_folded(value) if isinstance(value, str) else value for value in values)


def may_be_alike(several: Collection[Values], database: str) -> bool:
    """Whether a collation may take two of these for one. Of text outside of ASCII, MariaDB's are not known here."""
    if not any(isinstance(value, str) for values in several for value in values):
        return False
    if database in ("mysql", "mariadb") and not all(str(value).isascii() for values in several for value in values):
        return True
    return len({alike(values) for values in several}) < len(set(several))


def equal(columns: Sequence[sa.ColumnElement[Any]], values: Values) -> sa.ColumnElement[bool]:
    """Return the comparison of columns with values, which the database makes by its collation."""
    return sa.and_(*(column == value for column, value in zip(columns, values, strict=True)))


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower().rstrip()
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in plain if not unicodedata.combining(char)).casefold().rstrip()
