"""starlette-admin put together: views of all resources, our templates in front of its own, and the guard around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette_admin.base import BaseAdmin
from starlette_admin.export import ExportConfig

from ..database import SQLAlchemy
from ..rest.narrowing import is_table
from ..rest.relations import Relation, table_relations
from ..rest.resource import Resource, entity_of
from .changes import Changes
from .fields import LinkField
from .guard import csp_nonce
from .labels import label_fields, title_of
from .login import LoginProvider
from .markup import SharedCode, StrictMarkup
from .pages import ChangesPage, StartPage
from .rows import Linked
from .views import Backlink, ResourceView

__all__ = ["Site", "views_of"]

_HERE = Path(__file__).parent
_MAX_EXPORT = 100_000
_UNKNOWN = HTTPException(500)
_code = SharedCode()
_LEFT_OUT = frozenset({"import", "inline-edit", "inline-edit-row", "file"})


class Site(BaseAdmin):
    """The pages below one path. Cookies and forms are the guard's to check, so that its own middleware is left out."""

    def __init__(
        self,
        *,
        title: str,
        path: str,
        secret: str,
        provider: LoginProvider,
        views: Sequence[ResourceView],
        skipped: Sequence[tuple[str, str]],
        changes: Changes,
        write: bool,
    ) -> None:
        self.has_login = provider.accounts is not None
        super().__init__(
            title=title,
            base_url=path,
            templates_dir=str(_HERE / "templates"),
            static_dir=str(_HERE / "static"),
            index_view=StartPage(lambda: self._model_views, skipped, write=write),
            auth_provider=provider,
            secret_key=secret,
            timezone_config=None,
            export_config=ExportConfig(max_rows=_MAX_EXPORT),
        )
        for view in views:
            self.add_view(view)
        self.add_view(ChangesPage(changes))

    def application(self) -> Starlette:
        """Return the pages as an application."""
        self.mount_to(Starlette())
        return self.app

    def _init_csrf(self) -> None:
        """The guard binds tokens to sessions."""

    async def _render_error(self, request: Request, exc: Exception = _UNKNOWN) -> Response:
        response = await super()._render_error(request, exc)
        response.headers.update(getattr(exc, "headers", None) or {})  # such as Allow
        return response

    def _collect_core_routes(self) -> list[Route]:
        return [route for route in super()._collect_core_routes() if route.name not in _LEFT_OUT]

    def _setup_templates(self) -> None:
        super()._setup_templates()
        env = self.templates.env
        names: dict[str, Any] = env.globals
        env.add_extension(StrictMarkup)
        env.bytecode_cache = _code
        names.update(csp_nonce=csp_nonce, has_login=self.has_login)


def views_of(
    db: SQLAlchemy,
    resources: Sequence[Resource],
    *,
    labels: Mapping[Any, Any],
    names: Mapping[Any, str] | None = None,
    write: bool,
) -> list[ResourceView]:
    """Return one view for each resource, in the order of their names, their relations tied together.

    ``labels`` has the fields that name a row, by model or table; ``names`` the titles, where they are not the names.
    """
    ordered = sorted(resources, key=lambda item: item.name.lower())
    keys: dict[Any, str] = {}
    for resource in ordered:
        keys[entity_of(resource)] = _key(resource.name, set(keys.values()))
    titles = {entity_of(item): (names or {}).get(entity_of(item)) or title_of(item.name) for item in ordered}
    chosen = {entity_of(item): label_fields(item, labels.get(entity_of(item))) for item in ordered}
    models = {item.mapper.local_table: item.model for item in ordered if item.mapper is not None}
    views: dict[Any, ResourceView] = {}
    for resource in ordered:
        entity = entity_of(resource)
        linked = [
            (Linked(relation, fields, titles[relation.entity], chosen[relation.entity]), keys[relation.entity])
            for relation, fields in _to_one(resource, models)
            if relation.entity in keys
        ]
        views[entity] = ResourceView(
            db, resource, key=keys[entity], title=titles[entity], labels=chosen[entity], linked=linked, write=write
        )
    for view in views.values():
        for field in view.columns:
            if isinstance(field, LinkField) and any(kind.name == "is" for kind in field.filters or ()):
                views[field.linked.relation.entity].backlinks.append(Backlink(view, field))
    return list(views.values())


def _to_one(resource: Resource, models: Mapping[Any, Any]) -> list[tuple[Relation, tuple[Any, ...]]]:
    """The relations that hold the whole key of one other row in columns that may be seen.

    Those of a plain table beside models, such as an association table, lead to the models of the other tables.
    """
    found: list[tuple[Relation, tuple[Any, ...]]] = []
    relations = list(resource.relations.values())
    if is_table(resource.table) and resource.model is None:
        others = (item for item in table_relations(resource.registry, resource.table) if item.entity in models)
        relations += [replace(item, entity=models[item.entity]) for item in others if item.name not in resource.fields]
    for relation in relations:
        if relation.to_many or relation.secondary is not None:
            continue
        here = [resource.field_of(column) for column, _ in relation.pairs]
        fields = tuple(item for item in here if item is not None and item.readable)
        there = {relation.target.field_of(column) for _, column in relation.pairs}
        owns = all(getattr(column, "foreign_keys", None) for column, _ in relation.pairs)
        if owns and len(fields) == len(relation.pairs) and relation.target.key and there == set(relation.target.key):
            found.append((relation, fields))
    return found


def _key(name: str, taken: set[str]) -> str:
    """A name for URLs."""
    plain = "".join(char if char.isascii() and char.isalnum() else "-" for char in name.lower()).strip("-") or "table"
    key, number = plain, 1
    while key in taken or key in ("login", "logout", "static"):
        number += 1
        key = f"{plain}-{number}"
    return key
