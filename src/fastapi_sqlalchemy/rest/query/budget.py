"""What one query may cost in all, counted over its parameters and its JSON filter."""

from __future__ import annotations

from .errors import InvalidValueError
from .settings import QuerySettings

__all__ = ["Budget"]


class Budget:
    """Counts relations and values; past the bound is a fault of the parameter that goes there."""

    def __init__(self, settings: QuerySettings) -> None:
        self.settings = settings
        self._relations = 0
        self._values = 0

    def relations(self, number: int) -> None:
        """Count relations that are followed: each is a subquery (MariaDB joins at most 61 tables)."""
        self._relations += number
        if self._relations > self.settings.max_relations:
            msg = f"is one relation too many: the filters may follow {self.settings.max_relations} in all"
            raise InvalidValueError(msg, "too_many")

    def values(self, number: int) -> None:
        """Count the values of lists: each is a bound parameter (SQLite takes 32,766 of them)."""
        self._values += number
        if self._values > self.settings.max_list_values:
            msg = f"is one list too many: all lists may have {self.settings.max_list_values} values together"
            raise InvalidValueError(msg, "too_many")
