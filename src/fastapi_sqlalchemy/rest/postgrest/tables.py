"""What a mount serves: tables and views by schema and name, each with the endpoints of its resource."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from starlette.requests import Request

from ..access import Access
from ..endpoints import Endpoints
from ..listing import Listing
from ..operations.rows import Target
from ..parameters import query_pairs
from ..query.errors import shown
from ..query.operands import Family, family_of
from ..resource import Resource, entity_of
from .errors import failure

__all__ = ["KNOWN_RULES", "Names", "Served", "Tables"]


def known_rules() -> None:
    """Stands for the rules that the application has for a table."""


KNOWN_RULES: Callable[..., Any] = known_rules


@dataclass(eq=False)
class Served:
    """One table or view. ``endpoints`` is None where the database cannot tell its columns.

    ``scope_query`` is the rule that says whose rows they are; None is no rule, ``KNOWN_RULES`` those that routers of
    the application have for the table.
    """

    schema: str
    name: str
    endpoints: Endpoints | None
    access: Access
    write: bool = False
    scope_query: Callable[..., Any] | None = KNOWN_RULES

    @property
    def resource(self) -> Resource:
        """The resource; raises a problem where there is none."""
        return self.work.resource

    @property
    def work(self) -> Endpoints:
        """The endpoints; raises a problem where there are none."""
        if self.endpoints is None:
            raise failure(500, "unreadable", f"The database cannot read the view {self.name}.")
        return self.endpoints

    @cached_property
    def listing(self) -> Listing:
        """What reads plain pages by the short way."""
        return Listing(self.work)

    @property
    def family(self) -> Family:
        """Which rules the database follows."""
        return family_of(self.work.settings.db.url.get_backend_name())

    def pairs(self, request: Request) -> list[tuple[str, str]]:
        """Return the parameters of a request that no dependency reads."""
        return query_pairs(request, self.access.dependants(self.resource))

    async def target(self, request: Request, reached: Iterable[Resource]) -> Target:
        """Return what a read works on: the rows that the caller may see."""
        return await self.work.target(request, await self._scope(request), reached)

    async def changed(self, request: Request, reached: Iterable[Resource]) -> Target:
        """Return what a change works on."""
        return await self.work.changed(request, await self._scope(request), reached)

    async def _scope(self, request: Request) -> Any:
        if self.scope_query is None:
            return None
        only = None if self.scope_query is KNOWN_RULES else self.scope_query
        return await self.access.criteria(request, self.resource, only)


class Names:
    """The names of the tables, by what they were made from."""

    def __init__(self) -> None:
        self._names: dict[Any, str] = {}

    def add(self, resource: Resource, name: str) -> None:
        """Note a name."""
        self._names[entity_of(resource)] = name

    def of(self, resource: Resource) -> str | None:
        """Return the name that a resource is served by."""
        return self._names.get(entity_of(resource))


class Tables:
    """All that a mount serves. The first schema is the one of requests that name none."""

    def __init__(self) -> None:
        self.names = Names()
        self.schemas: list[str] = []
        self._found: dict[tuple[str, str], Served] = {}

    def add(self, served: Served) -> None:
        """Serve a table; raises ``ValueError`` where there is one of its name."""
        key = (served.schema, served.name)
        if key in self._found:
            raise ValueError(f"There are two tables named {served.name}.")
        self._found[key] = served
        if served.schema not in self.schemas:
            self.schemas.append(served.schema)
        if served.endpoints is not None:
            self.names.add(served.resource, served.name)

    def find(self, request: Request, name: str) -> Served:
        """Return the table of a request; the schema is that of its profile header."""
        profile = "accept-profile" if request.method in ("GET", "HEAD") else "content-profile"
        schema = request.headers.get(profile)
        if schema is not None and schema not in self.schemas:
            there = ", ".join(self.schemas) or "none"
            raise failure(406, "PGRST106", f"Invalid schema: {shown(schema)}", hint=f"There is: {there}.")
        schema = schema or (self.schemas[0] if self.schemas else "")
        found = self._found.get((schema, name))
        if found is None:
            if name.startswith("rpc/"):
                raise failure(404, "PGRST202", "There are no functions here.", hint="Tables and views are served.")
            raise failure(404, "PGRST205", f"Could not find the table '{schema}.{shown(name)}'")
        return found
