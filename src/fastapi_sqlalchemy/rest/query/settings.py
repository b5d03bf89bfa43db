"""The bounds of a query string."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["DEFAULTS", "CountMode", "QuerySettings"]

CountMode = Literal["exact", "estimated", "none"]


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """What a list may be asked for; past any bound is a 422.

    Sizes are rows, values, characters or levels. ``cursor_key`` signs cursors: give every worker of an application the
    same secret bytes.
    """

    page_size: int = 50
    max_page_size: int = 500
    max_offset: int = 1_000_000_000
    count: CountMode = "none"
    max_filters: int = 300
    max_values: int = 500
    max_list_values: int = 5_000
    max_relations: int = 20
    max_depth: int = 8
    max_nodes: int = 200
    max_relation_depth: int = 3
    max_include_depth: int = 2
    max_includes: int = 10
    max_sort: int = 10
    max_filter_length: int = 16_384
    max_parameters: int = 400
    cursor_key: bytes = field(default=b"", repr=False)


DEFAULTS = QuerySettings()
