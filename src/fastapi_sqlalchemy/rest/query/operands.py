"""Values of filters in the form that a database compares: what is bound, and which way of comparing it asks for.

Nothing here is SQL. The ``variant`` of an operand, with its field and operator, decides the text of the condition; the
values are its parameters, so that one statement serves every request that asks the same with other values.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

import sqlalchemy as sa

from ..fields import Field
from .kinds import PATTERNS, Kind, base_type, is_typeless, kind_of
from .lists import LISTS
from .patterns import Pattern
from .searches import SEARCHES

__all__ = ["Family", "Operand", "Variant", "family_of", "is_decorated", "is_single", "operand_of", "pattern_operand"]

Family: TypeAlias = Literal["sqlite", "postgresql", "mysql", "other"]
Variant: TypeAlias = Literal[
    "null",
    "not_null",
    "plain",
    "exact",
    "plain_and_exact",
    "moment",
    "number",
    "words",
    "glob",
    "like",
    "ilike",
    "folded_like",
    "translated",
    "search",
    "configured_search",
]

_INTEGER = re.compile(r"-?\d{1,19}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,400}(?:\.\d{1,400})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_FAMILIES: dict[str, Family] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "cockroachdb": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
_MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)?(?P<separator>[ T]?)"
    r"(?:(?P<clock>\d\d:\d\d)(?P<seconds>:\d\d)?(?:\.(?P<fraction>\d{3}|\d{6}))?(?P<suffix>Z|\+00:00|\+00)?)?",
    re.ASCII,
)


class Operand(NamedTuple):
    """How a value is compared, and what is bound for it, in the order that the condition takes it."""

    variant: Variant
    values: tuple[Any, ...] = ()


def family_of(dialect: sa.Dialect | str) -> Family:
    """Return which rules a dialect follows, by itself or by its name."""
    return _FAMILIES.get(dialect if isinstance(dialect, str) else dialect.name, "other")


def operand_of(field: Field, operator: str, value: Any, dialect: sa.Dialect, family: Family) -> Operand:
    """Return the operand of one condition; a list is one value. ``between`` has to be taken apart before."""
    if operator == "isnull":
        return Operand("null" if value else "not_null")
    if operator in PATTERNS:
        return pattern_operand(value, family, field)
    if operator in SEARCHES:
        return Operand("search" if len(value) == 1 else "configured_search", value)
    kind = kind_of(field)
    several = operator in LISTS
    if family == "mysql" and kind in (Kind.TEXT, Kind.OPAQUE) and not is_decorated(field):
        return _mysql_text(field, operator, value)
    if family == "sqlite" and kind in (Kind.DATETIME, Kind.TIME):
        found = _sqlite_moment(field, operator, value if several else (value,), dialect)
        if found is not None:
            return found
    if family == "sqlite" and is_typeless(field) and not several:
        return _typeless(operator, value)
    if several:
        return Operand("plain", ([_bound(field, item, kind, family) for item in value],))
    return Operand("plain", (_bound(field, value, kind, family),))


def pattern_operand(pattern: Pattern, family: Family, field: Field | None = None) -> Operand:
    """Return the operand of a pattern, in the language of the database; without a field, one that suits any."""
    if family == "sqlite":
        return Operand("glob", (pattern.glob(),))
    if family == "postgresql":
        if not pattern.insensitive:
            return Operand("like", (pattern.like(escape="\\"),))
        capitals, small = pattern.capitals()
        if not capitals:
            return Operand("ilike", (pattern.like(escape="\\"),))
        return Operand("translated", (capitals, small, pattern.like(folded=True, escape="\\")))
    if pattern.insensitive:
        return Operand("folded_like", (pattern.like(folded=True),))
    text = pattern.like()
    if family == "mysql" and pattern.has_prefix and field is not None and _has_charset_for(field, (text,)):
        return Operand("plain_and_exact", (text, text))
    return Operand("like", (text,))


def is_decorated(field: Field) -> bool:
    """Whether a type of the user's stands between the column and its values."""
    return isinstance(field.sql_type, sa.types.TypeDecorator) and not isinstance(field.sql_type, sa.Interval)


def is_single(field: Field, family: Family) -> bool:
    """Whether a column holds floats of single precision."""
    base = base_type(field)
    precision = getattr(base, "precision", None)
    if isinstance(base, sa.Double) or not isinstance(base, sa.Float):
        return False
    if family == "mysql":
        return not isinstance(base, sa.REAL) and (precision is None or precision <= 24)
    if family == "postgresql":
        return isinstance(base, sa.REAL) or (precision is not None and precision <= 24)
    return False


def _bound(field: Field, value: Any, kind: Kind, family: Family) -> Any:
    if is_decorated(field):
        return value
    if kind is Kind.FLOAT and is_single(field, family):
        return _single(value)
    if kind is Kind.DECIMAL and family == "sqlite":
        return float(value)
    if kind is Kind.DATETIME and family == "mysql":
        return value.replace(tzinfo=None)
    return value


def _typeless(operator: str, text: str) -> Operand:
    """SQLite puts every number before every text; a text that is a number asks for numbers."""
    if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        number: float = int(text)
    elif _NUMBER.fullmatch(text):
        number = float(text)
    else:
        return Operand("plain" if operator in ("eq", "ne") else "words", (text,))
    return Operand("number", (text, number) if operator in ("eq", "ne") else (number,))


def _single(value: float) -> float:
    """The nearest value of single precision; one past its range stays, no stored value is that large."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return value


def _mysql_text(field: Field, operator: str, value: Any) -> Operand:
    """Text is compared as UTF-8 bytes; beside it stands the plain comparison, which an index can serve."""
    texts: tuple[str, ...] = value if operator in LISTS else (value,)
    encoded = [text.encode() for text in texts]
    exact: Any = encoded if operator in LISTS else encoded[0]
    if operator in ("eq", "in") and kind_of(field) is Kind.TEXT and _has_charset_for(field, texts):
        return Operand("plain_and_exact", (list(texts) if operator in LISTS else value, exact))
    return Operand("exact", (exact,))


def _has_charset_for(field: Field, texts: Iterable[str]) -> bool:
    """MySQL: whether a plain comparison cannot fail for want of a common character set (error 1267)."""
    base = base_type(field)
    known = f"{getattr(base, 'charset', None) or ''} {getattr(base, 'collation', None) or ''}"
    return "utf8mb4" in known or all(text.isascii() for text in texts)


def _sqlite_moment(field: Field, operator: str, values: Iterable[Any], dialect: sa.Dialect) -> Operand | None:
    """SQLite compares texts; bind what keeps equal moments equal, whichever of its formats they are stored in."""
    forms: list[list[str]] = []
    for value in values:
        found = _moments(field, value, dialect)
        if not found:
            return None
        forms.append(found)
    if operator in ("eq", "ne", "in", "not_in"):
        return Operand("moment", ([form for item in forms for form in item],))
    return Operand("moment", (forms[0][-1] if operator in ("gt", "lte") else forms[0][0],))


def _moments(field: Field, value: dt.datetime | dt.time, dialect: sa.Dialect) -> list[str]:
    """The texts that stand for one moment, in their order; none for a column with a format of its own.

    SQLAlchemy writes six digits of a second, other programs none
    (https://www.sqlite.org/lang_datefunc.html lists the formats).
    """
    process = field.sql_type.dialect_impl(dialect).bind_processor(dialect)
    written = value.isoformat() if process is None else process(value)
    found = _MOMENT.fullmatch(written) if isinstance(written, str) else None
    if found is None:
        return []
    day, separator, suffix = found["day"] or "", found["separator"], found["suffix"] or ""
    if day and not separator:
        separator = " "
    minutes = f"{day}{separator}{value.hour:02}:{value.minute:02}"
    digits = f"{value.microsecond:06}"
    significant = digits.rstrip("0")
    clock = f"{minutes}:{value.second:02}"
    fractions = {digits, significant, digits[:3] if len(significant) <= 3 else digits}
    texts = {f"{clock}.{part}{suffix}" if part else f"{clock}{suffix}" for part in fractions}
    if not significant and not value.second:
        texts.add(f"{minutes}{suffix}")
        if day and (value.hour, value.minute) == (0, 0):
            texts.add(day)
    return sorted(texts) if written in texts else []
