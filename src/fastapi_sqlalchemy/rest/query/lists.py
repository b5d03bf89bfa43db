"""Operands that are lists: ``in``, ``not_in`` and ``between``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..fields import Field
from .errors import InvalidValueError
from .settings import QuerySettings

__all__ = ["LISTS", "read_list"]

LISTS = ("in", "not_in", "between")
"""Operators whose value is a list."""

_Raw = TypeVar("_Raw")


def read_list(
    field: Field,
    operator: str,
    items: Sequence[_Raw],
    settings: QuerySettings,
    parse: Callable[[Field, str, _Raw], Any],
) -> tuple[Any, ...]:
    """Return the values of a list, read one by one by ``parse``. Raises :class:`InvalidValueError`."""
    if operator == "between" and len(items) != 2:
        raise InvalidValueError(f"must be two values, the lower and the upper bound, not {len(items)}", "between")
    if not items:
        raise InvalidValueError("must have at least one value", "too_short")
    if len(items) > settings.max_values:
        raise InvalidValueError(f"must have at most {settings.max_values} values, not {len(items)}", "too_long")
    values: list[Any] = []
    for number, item in enumerate(items, 1):
        try:
            values.append(parse(field, operator, item))
        except InvalidValueError as error:
            raise InvalidValueError(f"{error.msg} (value {number} of the list is not)", error.kind) from None
    return tuple(values)
