"""Who may see what: the criteria of a request, also those of the resources that it reaches through relations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, solve_dependencies
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

from .operations.references import Reference, references_to
from .ownership import Ownership, as_criteria
from .resource import Resource, entity_of

__all__ = ["Access"]

ScopeQuery = Callable[..., Any]


class Access:
    """The ownership rules of one application: what each router's ``scope_query`` says about its resource."""

    def __init__(self) -> None:
        self._rules: dict[Any, list[tuple[ScopeQuery, Dependant]]] = {}
        self._owned: dict[Any, Resource] = {}

    def add(self, resource: Resource, scope_query: ScopeQuery) -> None:
        """Note a rule; it also holds where the resource is reached through a relation."""
        self._owned[resource.table] = resource
        rules = self._rules.setdefault(entity_of(resource), [])
        if all(known is not scope_query for known, _ in rules):
            rules.append((scope_query, get_dependant(path="", call=scope_query)))

    def references(self, resource: Resource) -> tuple[Reference, ...]:
        """Return the foreign keys of a resource that point at rows with owners."""
        return references_to(resource, self._owned) if self._owned else ()

    @property
    def has_rules(self) -> bool:
        """Whether any router has a ``scope_query``."""
        return bool(self._rules)

    async def criteria(self, request: Request, resource: Resource, only: ScopeQuery | None = None) -> list[Any]:
        """Return what the rules about a resource say to a request that no router asks; ``only`` is the one to ask."""
        rules = self._rules.get(entity_of(resource), ())
        return [
            await _solve(request, scope_query, dependant)
            for scope_query, dependant in rules
            if only is None or scope_query is only
        ]

    def dependants(self, resource: Resource) -> list[Dependant]:
        """Return what the rules about a resource depend on."""
        return [dependant for _, dependant in self._rules.get(entity_of(resource), ())]

    async def ownership(
        self, request: Request, resource: Resource, scope: Any, reached: Iterable[Resource] = ()
    ) -> Ownership:
        """Return the criteria of a request; ``scope`` is what the router's own dependency gave."""
        ownership = Ownership(resource, as_criteria(scope))
        seen: set[Any] = {entity_of(resource)}
        for target in reached:
            entity = entity_of(target)
            if entity in seen:
                continue
            seen.add(entity)
            for scope_query, dependant in self._rules.get(entity, ()):
                ownership.add(target, as_criteria(await _solve(request, scope_query, dependant)))
        return ownership


async def _solve(request: Request, call: ScopeQuery, dependant: Dependant) -> Any:
    """Call a dependency that no parameter of the route names, the way FastAPI would."""
    stack = request.scope.get("fastapi_inner_astack")
    if not isinstance(stack, AsyncExitStack):
        raise RuntimeError("The request did not come through a FastAPI route.")
    holder = Dependant(path="")
    holder.dependencies.append(dependant)
    dependant.name = "criteria"
    solve: Any = solve_dependencies
    solved = await solve(
        request=request,
        dependant=holder,
        dependency_overrides_provider=request.app,
        async_exit_stack=stack,
        embed_body_fields=False,
    )
    if solved.errors:
        raise RequestValidationError(solved.errors)
    return solved.values["criteria"]
