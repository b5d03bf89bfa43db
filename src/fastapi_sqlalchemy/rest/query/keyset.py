"""The rows past a place in an order: a comparison of rows, or of one column after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from .operands import Family

__all__ = ["Step", "rows_past"]

Expression = sa.ColumnElement[Any]
Criterion = sa.ColumnElement[bool]


def rows_past(steps: Sequence[Step], family: Family, *, inclusive: bool = False) -> list[Criterion]:
    """Return the criteria of the rows past a place (or at it too), in the form that an index serves.

    Where all columns go one way and none holds NULL, that is one comparison of rows; MariaDB uses no index for it.
    """
    plain = not any(step.nullable or step.value is None for step in steps)
    if plain and family in ("sqlite", "postgresql") and len({step.descending for step in steps}) == 1:
        return [_row_values(steps, inclusive=inclusive)]
    return _expanded(steps, inclusive=inclusive)


class Step:
    """One column of the order with the value it has at the cursor (None for NULL)."""

    __slots__ = ("descending", "expression", "nullable", "nulls_last", "value")

    def __init__(
        self, expression: Expression, value: Expression | None, *, descending: bool, nulls_last: bool, nullable: bool
    ) -> None:
        self.expression = expression
        self.value = value
        self.descending = descending
        self.nulls_last = nulls_last
        self.nullable = nullable

    @property
    def same(self) -> Criterion:
        """The column has the cursor's value."""
        return self.expression.is_(sa.null()) if self.value is None else self.expression == self.value

    @property
    def after(self) -> Criterion | None:
        """The column comes past the cursor's value; None where nothing does."""
        if self.value is None:
            return None if self.nulls_last else self.expression.is_not(sa.null())
        past = self.expression < self.value if self.descending else self.expression > self.value
        if self.nullable and self.nulls_last:
            return sa.or_(past, self.expression.is_(sa.null()))
        return past

    @property
    def not_before(self) -> Criterion | None:
        """A bound that an index on the first column can use; None where there is none."""
        if self.value is None or (self.nullable and self.nulls_last):
            return None
        return self.expression <= self.value if self.descending else self.expression >= self.value


def _row_values(steps: Sequence[Step], *, inclusive: bool) -> Criterion:
    if len(steps) == 1 and not inclusive:
        found = steps[0].after
        assert found is not None
        return found
    here = sa.tuple_(*(step.expression for step in steps))
    there = sa.tuple_(*(step.value for step in steps if step.value is not None))
    if inclusive:
        return here <= there if steps[0].descending else here >= there
    return here < there if steps[0].descending else here > there


def _expanded(steps: Sequence[Step], *, inclusive: bool) -> list[Criterion]:
    alternatives: list[Criterion] = [sa.and_(*(step.same for step in steps))] if inclusive else []
    for number, step in enumerate(steps):
        after = step.after
        if after is not None:
            alternatives.append(sa.and_(*(item.same for item in steps[:number]), after))
    found = [sa.or_(*alternatives) if alternatives else sa.false()]
    bound = steps[0].not_before if len(steps) > 1 else None
    return found if bound is None else [bound, *found]
