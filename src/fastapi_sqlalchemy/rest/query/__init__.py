"""The query grammar of a list: read a query string, turn it into SQLAlchemy Core, find pages by cursor."""

from .compiler import Visible as Visible
from .compiler import compile_filters as compile_filters
from .compiler import compile_nodes as compile_nodes
from .cursor import is_exact as is_exact
from .errors import QueryError as QueryError
from .errors import QueryErrorItem as QueryErrorItem
from .kinds import is_sortable as is_sortable
from .kinds import operators_of as operators_of
from .names import RESERVED as RESERVED
from .openapi import query_parameters as query_parameters
from .ordering import Ordering as Ordering
from .ordering import Segment as Segment
from .parser import parse_query as parse_query
from .plans import Planned as Planned
from .plans import Plans as Plans
from .settings import QuerySettings as QuerySettings
from .tree import Cursor as Cursor
from .tree import ListQuery as ListQuery
from .tree import SortKey as SortKey

__all__ = [
    "RESERVED",
    "Cursor",
    "ListQuery",
    "Ordering",
    "Planned",
    "Plans",
    "QueryError",
    "QueryErrorItem",
    "QuerySettings",
    "Segment",
    "SortKey",
    "Visible",
    "compile_filters",
    "compile_nodes",
    "is_exact",
    "is_sortable",
    "operators_of",
    "parse_query",
    "query_parameters",
]
