"""`reflect`: the resources and routers of a database that already exists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import quote

import sqlalchemy as sa
from fastapi import APIRouter, params
from starlette.responses import Response

from ..database import SQLAlchemy
from ..exceptions import ConfigurationError
from ..web.problems import Problem, ProblemResponse, problem_responses
from ..web.startup import describe_failure
from .reflection.catalog import Entry, list_entries, probe, read_tables
from .reflection.types import INCOMPARABLE, GeometryAsText
from .resource import Resource, ResourceRegistry, resource_for
from .route import CRUDRoute
from .router import CRUDRouter

__all__ = ["Reflection", "Served", "Skipped", "reflect"]


class Skipped(NamedTuple):
    """A table or view that is not served, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Served:
    """A table or view that has routes; ``problem`` tells why it cannot be read, where it cannot.

    ``resource`` is None where not even the columns are known.
    """

    entry: Entry
    resource: Resource | None
    problem: str | None = None

    @property
    def name(self) -> str:
        """The name, with its schema outside of the default one."""
        return self.entry.label

    @property
    def path(self) -> str:
        """The path of its list: the name, percent-encoded."""
        return f"/{quote(self.name, safe='')}"


@dataclass(eq=False)
class Reflection:
    """What `reflect` found: ``served`` has routes, ``skipped`` has not."""

    db: SQLAlchemy
    served: list[Served]
    skipped: list[Skipped]
    metadata: sa.MetaData
    write: bool = False
    registry: ResourceRegistry = field(default_factory=lambda: ResourceRegistry(closed=True), repr=False)

    @property
    def resources(self) -> list[Resource]:
        """The resources of all tables and views whose columns are known."""
        return [item.resource for item in self.served if item.resource is not None]

    def routers(self, *, dependencies: Sequence[params.Depends] = ()) -> list[APIRouter]:
        """Return one router for each table and view, at the path of its name.

        ``dependencies`` hold for every route. Names with a slash come first, so that ``/a%2Fb`` is no row of ``/a``.
        """
        order = sorted(self.served, key=lambda item: ("/" not in item.name, item.name))
        return [self._router(item, dependencies) for item in order]

    def _router(self, item: Served, dependencies: Sequence[params.Depends]) -> APIRouter:
        if item.resource is None:
            return _broken(item, dependencies)
        return CRUDRouter(
            item.resource.table,  # type: ignore[arg-type]  # made of a Table below
            db=self.db,
            prefix=item.path,
            tags=[item.name],
            operations=_WRITE if self.write else _READ,
            dependencies=dependencies,
            registry=self.registry,
        )


_READ = ("list", "read")
_WRITE = (*_READ, "create", "update", "replace", "delete", "upsert")


def reflect(
    db: SQLAlchemy,
    *,
    schema: str | None = None,
    tables: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    write: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Reflection:
    """Read the structure of a database: its tables, views and foreign keys.

    ``schema`` is the default one unless given. ``tables`` are the only ones to serve, ``exclude`` those to leave out.
    ``write`` makes routers that also create, change and delete; ``progress`` is told what is being read. What cannot be
    reflected never stops the others.

    Raises `ConfigurationError` for a schema, table or exclusion that is not there, and what the driver raises where the
    database cannot be opened.
    """
    wanted = None if tables is None else set(tables)
    unwanted = set(exclude)
    metadata = sa.MetaData()
    with db.engine.connect() as connection:
        schema = _schema(connection, schema)
        entries, left_out = list_entries(connection, schema)
        _check_names({entry.name for entry in entries} | {name for name, _ in left_out}, (wanted or set()) | unwanted)
        chosen = [item for item in entries if (wanted is None or item.name in wanted) and item.name not in unwanted]
        if progress is not None:
            progress(f"{len(chosen)} tables and views")
        found, failed = read_tables(connection, chosen, metadata, progress)
        problems = {entry: error for entry, table in found.items() if (error := probe(connection, table))}
        connection.rollback()
    reflection = Reflection(db, [], [Skipped(*item) for item in left_out], metadata, write)
    reflection.skipped += [
        Skipped(item.label, "excluded" if item.name in unwanted else "not named")
        for item in entries
        if item not in chosen
    ]
    for entry in chosen:
        table = found.get(entry)
        resource = None
        error = failed.get(entry) or problems.get(entry)
        if table is not None:
            resource = resource_for(table, registry=reflection.registry)
            if not resource.readable:
                reflection.skipped.append(Skipped(entry.label, "all of its columns have names that look secret"))
                continue
            for name, item in resource.fields.items():
                if isinstance(item.sql_type, INCOMPARABLE):
                    resource.fields[name] = replace(item, filterable=False)
                if isinstance(item.sql_type, GeometryAsText):  # text that is no geometry would be stored as NULL
                    resource.fields[name] = replace(
                        resource.fields[name], writable=False, updatable=False, required=False
                    )
            reflection.registry.declare(resource)
        elif error is not None:
            reflection.skipped.append(Skipped(entry.label, describe_failure(error)))
        reflection.served.append(Served(entry, resource, None if error is None else describe_failure(error)))
    return reflection


def _schema(connection: sa.Connection, schema: str | None) -> str | None:
    inspector = sa.inspect(connection)
    if schema is None or schema == inspector.default_schema_name:
        return None
    if schema not in inspector.get_schema_names():
        raise ConfigurationError(f"There is no schema {schema!r} in this database.")
    return schema


def _check_names(there: set[str], named: set[str]) -> None:
    missing = sorted(named - there)
    if missing:
        raise ConfigurationError(f"There is no table or view named {', '.join(map(repr, missing))} in this database.")


def _broken(item: Served, dependencies: Sequence[params.Depends]) -> APIRouter:
    """The route of a view whose columns the database cannot tell."""
    router = APIRouter(prefix=item.path, tags=[item.name], dependencies=list(dependencies), route_class=CRUDRoute)
    detail = f"The database cannot read the {item.entry.kind} {item.name}."

    async def unreadable() -> Response:
        return ProblemResponse(Problem(status=500, code="unreadable", detail=detail))

    router.add_api_route(
        "",
        unreadable,
        methods=["GET"],
        name=f"list_{re.sub(r'[^0-9A-Za-z]+', '_', item.name)}",
        summary=f"List {item.name}",
        description=f"{detail} Its definition is broken, or it uses what is not there.",
        response_model=None,
        status_code=500,
        responses=problem_responses(500),
    )
    return router
