"""Conditions on one column in the SQL of each database.

Filters answer alike everywhere: text is compared by code point and exactly (MariaDB's collations would ignore case,
accents and trailing blanks), patterns see the case of letters unless asked not to (SQLite's LIKE would not). Where a
column's own index can narrow the search first, the plain comparison stands beside the exact one.
"""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..fields import Field
from .kinds import PATTERNS, Kind, base_type, kind_of
from .operands import Family, Variant, is_decorated
from .patterns import LIKE_ESCAPE
from .searches import searched

__all__ = ["Take", "as_text", "condition"]

Expression = sa.ColumnElement[Any]
Criterion = sa.ColumnElement[bool]


class Take(Protocol):
    """Gives the parameter of the next value of an operand; ``expanding`` where the value is a list."""

    def __call__(self, sql_type: sa.types.TypeEngine[Any], *, expanding: bool = False) -> sa.BindParameter[Any]: ...


_COMPARE: dict[str, Callable[[Any, Any], Criterion]] = {
    "eq": python.eq,
    "ne": python.ne,
    "gt": python.gt,
    "gte": python.ge,
    "lt": python.lt,
    "lte": python.le,
    "in": lambda column, listed: column.in_(listed),
    "not_in": lambda column, listed: column.not_in(listed),
}
_TEXT = sa.Text()
_BYTES = sa.LargeBinary()


def condition(
    column: Expression, field: Field, operator: str, variant: Variant, take: Take, family: Family
) -> Criterion:
    """Return the condition that an operand of this variant makes; its values are taken in their order."""
    if variant in ("null", "not_null"):
        found = _is_null(column, field, family)
        return found if variant == "null" else sa.not_(found)
    if operator in PATTERNS:
        return _matches(as_text(column, field, family), variant, take, family)
    if variant in ("search", "configured_search"):
        return searched(column, field, operator, take, family, configured=variant == "configured_search")
    several = operator in ("in", "not_in")
    if variant == "moment":
        several = operator in ("eq", "ne", "in", "not_in")
        operator = {"eq": "in", "ne": "not_in"}.get(operator, operator)
        return _COMPARE[operator](sa.type_coerce(column, _TEXT), take(_TEXT, expanding=several))
    if variant in ("number", "words"):
        return _typeless(column, field, operator, variant, take)
    kind = kind_of(field)
    if kind is Kind.OPAQUE:
        column = as_text(column, field, family)
    if variant in ("exact", "plain_and_exact"):
        text = sa.type_coerce(column, _TEXT)
        plain = _COMPARE[operator](text, take(_TEXT, expanding=several)) if variant == "plain_and_exact" else None
        exact = _COMPARE[operator](_utf8_binary(text), take(_BYTES, expanding=several))
        return exact if plain is None else sa.and_(plain, exact)
    if kind is Kind.TEXT and family == "postgresql" and operator in ("gt", "gte", "lt", "lte"):
        column = sa.collate(as_text(column, field, family), "C")
        # one of the column's type would bring the column's collation, and a comparison has one only
        return _COMPARE[operator](column, take(field.sql_type if is_decorated(field) else _TEXT))
    return _COMPARE[operator](column, take(_bound_type(field, kind, family), expanding=several))


def _typeless(column: Expression, field: Field, operator: str, variant: Variant, take: Take) -> Criterion:
    """A value of SQLite that has a type of its own: numbers are compared with numbers, texts with texts."""
    stored = sa.type_coerce(column, sa.types.NullType())
    kinds = ("integer", "real") if variant == "number" else ("text",)
    known = sa.func.typeof(stored).in_([sa.literal_column(f"'{kind}'") for kind in kinds])
    if operator not in ("eq", "ne"):
        return sa.and_(known, _COMPARE[operator](stored, take(sa.types.NullType())))
    text = as_text(column, field, "sqlite") == take(_TEXT)
    found = sa.or_(text, sa.and_(known, stored == take(sa.types.NullType())))
    return found if operator == "eq" else sa.not_(found)


def as_text(column: Expression, field: Field, family: Family) -> Expression:
    """Return a column of text, or one of a type that has no Python form, as plain text."""
    if kind_of(field) is Kind.OPAQUE:
        return sa.cast(column, sa.CHAR if family == "mysql" else sa.Text)
    base = base_type(field)
    if family == "postgresql":
        if isinstance(base, (sa.CHAR, postgresql.CITEXT)):
            return sa.cast(column, sa.Text)
        if getattr(base, "collation", None) is not None:
            return sa.collate(sa.type_coerce(column, _TEXT), "C")
    return sa.type_coerce(column, _TEXT)


def _matches(text: Expression, variant: Variant, take: Take, family: Family) -> Criterion:
    if variant == "glob":
        return text.op("GLOB", is_comparison=True)(take(_TEXT))
    if variant == "ilike":
        return text.ilike(take(_TEXT))
    if variant == "translated":
        capitals, small = take(_TEXT), take(_TEXT)
        return sa.func.translate(sa.func.lower(text), capitals, small).like(take(_TEXT))
    if family == "postgresql":
        # Its own escape, the backslash, goes without saying: with another one LIKE uses no index.
        return text.like(take(_TEXT))
    plain = text.like(take(_TEXT), escape=LIKE_ESCAPE) if variant == "plain_and_exact" else None
    if family == "mysql":
        text = _utf8(text)
    if variant == "folded_like":
        text = sa.func.lower(text, type_=_TEXT)
    if family == "mysql":
        text = sa.collate(text, "utf8mb4_bin")
    exact = text.like(take(_TEXT), escape=LIKE_ESCAPE)
    return exact if plain is None else sa.and_(plain, exact)


def _utf8_binary(text: Expression) -> Expression:
    """MySQL: text of any character set as its UTF-8 bytes, which compare exactly and by code point."""
    return sa.cast(_utf8(text), sa.LargeBinary)


def _utf8(text: Expression) -> Expression:
    converted: Expression = sa.func.convert(text.op("USING")(sa.literal_column("utf8mb4")), type_=_TEXT)
    return converted


def _bound_type(field: Field, kind: Kind, family: Family) -> sa.types.TypeEngine[Any]:
    """The type of a parameter: one that neither rounds its value nor refuses it."""
    if is_decorated(field):
        return field.sql_type
    if kind is Kind.INTEGER:
        return sa.BigInteger()
    if kind is Kind.FLOAT or (kind is Kind.DECIMAL and family == "sqlite"):
        return sa.Double()
    if kind is Kind.DECIMAL:
        return sa.Numeric()
    return _TEXT if kind is Kind.OPAQUE else field.sql_type


def _is_null(column: Expression, field: Field, family: Family) -> Criterion:
    """The null of JSON is NULL too: a client sees the same in both."""
    empty = column.is_(sa.null())
    if kind_of(field) is not Kind.JSON:
        return empty
    text = sa.cast(sa.type_coerce(column, sa.types.NullType()), sa.CHAR if family == "mysql" else sa.Text)
    return sa.or_(empty, text == sa.literal("null", _TEXT))
