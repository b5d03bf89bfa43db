"""Who may see what: the criteria of a request, also those of the resources that it reaches through relations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, solve_dependencies
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

from .operations.references import Reference, references_to
from .ownership import Ownership, as_criteria, moved_to
from .resource import Resource, entity_of, table_key

__all__ = ["Access"]

ScopeQuery = Callable[..., Any]
TableKey = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class _Rule:
    resource: Resource
    scope_query: ScopeQuery
    dependant: Dependant

    def is_about(self, resource: Resource) -> bool:
        """Whether it holds for a resource of its table; that of a subclass says nothing of the other rows."""
        mine, other = self.resource.mapper, resource.mapper
        return mine is None or other is None or other.base_mapper is not mine.base_mapper or other.isa(mine)


class Access:
    """The ownership rules of one application: what each router's ``scope_query`` says about its resource."""

    def __init__(self) -> None:
        self._rules: dict[TableKey, list[_Rule]] = {}
        self._owned: dict[TableKey, Resource] = {}

    def add(self, resource: Resource, scope_query: ScopeQuery) -> None:
        """Note a rule; it holds for the table, whatever model, `Table` or reflection it is reached by."""
        key = table_key(resource)
        self._owned.setdefault(key, resource)
        rules = self._rules.setdefault(key, [])
        entity = entity_of(resource)
        if not any(rule.scope_query is scope_query and entity_of(rule.resource) is entity for rule in rules):
            rules.append(_Rule(resource, scope_query, get_dependant(path="", call=scope_query)))

    def references(self, resource: Resource) -> tuple[Reference, ...]:
        """Return the foreign keys of a resource that point at rows with owners."""
        return references_to(resource, self._owned) if self._owned else ()

    @property
    def has_rules(self) -> bool:
        """Whether any router has a ``scope_query``."""
        return bool(self._rules)

    async def criteria(self, request: Request, resource: Resource, only: ScopeQuery | None = None) -> list[Any]:
        """Return what the rules about a resource say to a request that no router asks; ``only`` is the one to ask."""
        rules = {rule.scope_query: rule for rule in self._about(resource) if only is None or rule.scope_query is only}
        return [
            criterion
            for rule in rules.values()
            for criterion in moved_to(resource, as_criteria(await _solve(request, rule.scope_query, rule.dependant)))
        ]

    def dependants(self, resource: Resource) -> list[Dependant]:
        """Return what the rules about a resource depend on."""
        return [rule.dependant for rule in self._about(resource)]

    def _about(self, resource: Resource) -> list[_Rule]:
        return [rule for rule in self._rules.get(table_key(resource), ()) if rule.is_about(resource)]

    async def ownership(
        self, request: Request, resource: Resource, scope: Any, reached: Iterable[Resource] = ()
    ) -> Ownership:
        """Return the criteria of a request; ``scope`` is what the router's own dependency gave."""
        ownership = Ownership(resource, as_criteria(scope))
        seen: set[Any] = {entity_of(resource)}
        targets = list(reached) if self._rules else []
        for target in (*targets, *_between((resource, *targets))):
            entity = entity_of(target)
            if entity in seen:
                continue
            seen.add(entity)
            if criteria := await self.criteria(request, target):
                ownership.add(target, criteria)
        return ownership


def _between(resources: Sequence[Resource]) -> Iterator[Resource]:
    """The tables between of those that are many to many."""
    reached = {entity_of(resource) for resource in resources}
    for resource in resources:
        for relation in resource.relations.values():
            if relation.between is not None and relation.entity in reached:
                yield relation.between


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
