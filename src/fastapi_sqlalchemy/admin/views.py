"""The pages of one resource: starlette-admin's lists and forms over the REST layer's reads and writes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

from markupsafe import escape
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette_admin.exceptions import ActionFailed, FormValidationError
from starlette_admin.filters import FilterGroup
from starlette_admin.filters.base import FilterValidationError
from starlette_admin.flash import flash
from starlette_admin.helpers import detail_url
from starlette_admin.types import RequestAction
from starlette_admin.views import BaseModelView

from ..database import SQLAlchemy
from ..rest.fields import Field
from ..rest.hooks import Hooks
from ..rest.operations import write
from ..rest.operations.rows import Target, UnreadableRowError
from ..rest.ownership import Ownership
from ..rest.query.errors import InvalidValueError
from ..rest.query.kinds import Kind, is_searchable, kind_of
from ..rest.query.tree import Comparison, Node, Or, Search, SortKey
from ..rest.query.values import check_text, parse_text
from ..rest.resource import Resource
from ..rest.schemas import body_model, write_values
from ..rest.serialize import dump_json
from ..web.problems import Problem, ProblemError, problem_for
from .changes import Change
from .export import CSVExport, JSONExport
from .fields import MISSING, ColumnField, LinkField
from .filters import nodes_of
from .guard import visit_of
from .rows import Linked, Listed, Reader, Row
from .text import UnreadableError, display

__all__ = ["Backlink", "ResourceView"]

T = TypeVar("T")
Values = dict[str, Any]

_MAX_SEARCH = 200
_AT_ONCE = 1000
"""Rows of an export after which other requests have their turn."""

_STALE = "Somebody has changed this row since you opened it. Load the page again, then repeat your change."
_SAFE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Backlink:
    """A list of rows that point at a row: the view they are in, and the field there that names it."""

    def __init__(self, view: ResourceView, field: LinkField) -> None:
        self.view = view
        self.field = field

    def url(self, request: Request, row: Row) -> str:
        """Return the address of the list."""
        base = request.url_for(f"{request.app.state.ROUTE_NAME}:list", key=self.view.key or "")
        quoted = row.key.replace("\\", "\\\\").replace('"', '\\"')
        condition = f'{self.field.name}__is="{quoted}"'
        return f"{base}?{urlencode({'filter': condition})}"


class ResourceView(BaseModelView):
    """The list, the forms and the page of a row, for one model or table.

    ``linked`` are its relations to one row, each with the key of the view they lead to; ``labels`` the fields that
    name its rows. Without ``write`` nothing can be changed; a resource without a key is a list and nothing else.
    """

    def __init__(
        self,
        db: SQLAlchemy,
        resource: Resource,
        *,
        key: str,
        title: str,
        labels: Sequence[Any],
        linked: Iterable[tuple[Linked, str]],
        write: bool,
    ) -> None:
        self.db = db
        self.resource = resource
        self.target = Target(resource, Ownership(resource), Hooks(None))
        self.labels = tuple(labels)
        links = tuple(linked)
        self.reader = Reader(self.target, title, self.labels, [item for item, _ in links])
        self.backlinks: list[Backlink] = []
        self.key = key
        self.pk_attr = "_key"
        self.display_name = title
        self.menu_label = title
        self.columns: list[ColumnField | LinkField] = _fields(resource, links)
        self.fields = list(self.columns)
        self.has_key = bool(resource.key)
        self.has_write = write and self.has_key and not resource.read_only
        self.exporters = [CSVExport(), JSONExport()]
        self.importers = []
        self.actions = ["delete"] if self.has_write else []
        self.row_actions = ["view", "edit", "delete"]
        self.row_click_navigate = self.has_key
        self.page_size = 25
        self.page_size_options = [10, 25, 50, 100]
        self.searchable_fields = [field.name for field in self.fields if field.filters]
        self.sortable_fields = [field.name for field in self.fields if field.orderable]
        self.fields_default_sort = []
        super().__init__()

    def can_view_detail(self, request: Request) -> bool:
        """Whether a row has a page: it needs a key."""
        return self.has_key

    def can_create(self, request: Request) -> bool:
        """Whether rows can be made: not where a column has to be set that nobody may see."""
        return self.has_write and not any(
            item.secret and not item.nullable and not item.has_default and not _made_by_server(item)
            for item in self.resource.fields.values()
        )

    def can_edit(self, request: Request) -> bool:
        """Whether rows can be changed."""
        return self.has_write

    def can_delete(self, request: Request) -> bool:
        """Whether rows can be deleted."""
        return self.has_write

    def can_import(self, request: Request) -> bool:
        """Never: a form is the only way in."""
        return False

    def _default_sort(self) -> list[tuple[str, bool]]:
        return []

    async def find_all(
        self,
        request: Request,
        skip: int = 0,
        limit: int = 100,
        q: str | None = None,
        sorts: Sequence[tuple[str, str]] | None = None,
        filters: FilterGroup | None = None,
    ) -> Sequence[Any]:
        """Return the rows of a page; how many there are in all is read with them and kept for `count`."""
        where = self._where(q, filters)
        order = self._order(sorts or ())

        def work(session: Session) -> Listed:
            rows = self.reader.page(session, where, order, limit if limit > 0 else None, skip)
            if 0 < len(rows) < limit or (limit > 0 and not rows and not skip):
                return Listed(rows, skip + len(rows))
            return Listed(rows, self.reader.total(session, where))

        listed = await self.run(work)
        request.state.admin_total = (self.key, q, repr(filters), listed.total)
        return listed.rows

    async def count(self, request: Request, q: str | None = None, filters: FilterGroup | None = None) -> int:
        """Return how many rows a search and filters find."""
        known = getattr(request.state, "admin_total", None)
        if known is not None and known[:3] == (self.key, q, repr(filters)):
            return int(known[3])
        where = self._where(q, filters)
        return await self.run(lambda session: self.reader.total(session, where))

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """Return one row, or None."""
        rows = await self.find_by_pks(request, [pk])
        return rows[0] if rows else None

    async def find_by_pks(self, request: Request, pks: list[Any]) -> Sequence[Any]:
        """Return the rows of some keys."""
        keys = [str(pk) for pk in pks[: self.action_select_all_limit]]
        return await self.run(lambda session: self.reader.by_keys(session, keys))

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        """Insert a row, as the REST layer does."""
        values = self._read(request, data, "Create", lambda field: field.typed(data.get(field.name)))

        async def work(change: Change) -> Row:
            rows = await self._write(request, lambda session: write.create(session, self.target, [values]))
            row = self.reader.row(rows[0])
            change.row = row.key
            change.note({}, self._texts(row, values))
            return row

        return await self._logged(request, "create", "", work)

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> Any:
        """Change what was typed over, and nothing else, of a row that nobody has changed meanwhile."""
        before = await self.find_by_pk(request, pk)
        key = self.reader.decode(str(pk))
        if before is None or key is None:
            raise HTTPException(404)
        values = self._read(request, data, "Update", lambda field: field.changed(data.get(field.name), before))
        form = await request.form()
        etag = form.get("_etag")
        if_match = etag if isinstance(etag, str) and etag else None
        request.state.admin_etag = if_match
        if not values:
            return before

        async def work(change: Change) -> Row:
            row = self.reader.row(
                await self._write(request, lambda session: write.update(session, self.target, key, values, if_match))
            )
            change.note(self._texts(before, values), self._texts(row, values))
            return row

        return await self._logged(request, "edit", before.key, work)

    async def delete(self, request: Request, pks: list[Any]) -> int | None:
        """Delete rows, all of them or none."""
        given = dict.fromkeys(map(str, pks))
        keys = [(text, key) for text in given if (key := self.reader.decode(text)) is not None]
        if not keys:
            raise ActionFailed("There is no such row.")

        async def work(change: Change) -> list[Any]:
            def each(session: Session) -> list[Any]:
                return [write.delete(session, self.target, key) for _, key in keys]

            rows = await self._write(request, each, action=True)
            if len(rows) == 1:
                row = self.reader.row(rows[0])
                change.note(self._texts(row, row.values), {})
            return rows

        return len(await self._logged(request, "delete", "; ".join(text for text, _ in keys), work))

    async def handle_row_action(self, request: Request, pk: Any, name: str) -> Response | None:
        """Do what a button beside a row asks for; looking and editing are links, which nobody sends."""
        if name != "delete":
            raise ActionFailed("There is no such action.")
        return await super().handle_row_action(request, pk, name)

    async def serialize(
        self, obj: Any, request: Request, include_relationships: bool = True, include_select2: bool = False
    ) -> dict[str, Any]:
        """Return what the templates show of a row."""
        row: Row = obj
        action: RequestAction = request.state.action
        if action == RequestAction.EXPORT:
            request.state.admin_exported = done = getattr(request.state, "admin_exported", 0) + 1
            if done % _AT_ONCE == 0:
                await asyncio.sleep(0)
            return {"_row": row}
        meta: dict[str, Any] = {"repr": row.label}
        found: dict[str, Any] = {"_key": row.key, "_meta": meta}
        if action == RequestAction.RELATION_LOOKUP:
            label = str(escape(row.label))
            meta["select2"] = {"selection": f"<span>{label}</span>", "result": f"<span>{label}</span>"}
            return found
        if self.has_key:
            meta["detailUrl"] = detail_url(request, self.key or "", row.key)
        shown = self.get_fields_list(request)
        for field in self.columns:
            if field in shown:
                read = (
                    field.control if action.is_form() else field.cell if action == RequestAction.LIST else field.whole
                )
                found[field.name] = read(row)
        return found

    async def repr(self, obj: Any, request: Request) -> str:
        """Return the label of a row."""
        return str(obj.label)

    async def get_pk_value(self, request: Request, obj: Any) -> Any:
        """Return the key of a row as text."""
        return obj.key

    async def run(self, work: Callable[[Session], T]) -> T:
        """Read from the database; an error of it becomes a page that tells so."""
        try:
            return await self.db.run(work, read_only=True)
        except HTTPException:
            raise
        except Exception as error:
            problem = problem_for(error, self.db.metadata)
            if problem is None:
                raise
            raise HTTPException(problem.status, problem.detail, dict(problem.headers)) from error

    async def _write(self, request: Request, work: Callable[[Session], T], *, action: bool = False) -> T:
        """Change the database; what it refuses is told beside the fields concerned."""
        try:
            try:
                return await self.db.run(work)
            except UnreadableRowError:
                self.target.cautious = True
                return await self.db.run(work)
        except ProblemError as error:
            raise self._refused(request, error.problem, action=action) from error
        except Exception as error:
            problem = problem_for(error, self.db.metadata)
            if problem is None:
                raise
            raise self._refused(request, problem, action=action) from error

    def _refused(self, request: Request, problem: Problem, *, action: bool) -> Exception:
        if action:
            return ActionFailed(problem.detail)
        if problem.status >= 500 or problem.status == 404:
            return HTTPException(problem.status, problem.detail, dict(problem.headers))
        names = self._names_of(problem.fields)
        if not names:
            flash(request, _STALE if problem.code == "precondition_failed" else problem.detail, "error")
        return FormValidationError(dict.fromkeys(names, problem.detail))

    async def _logged(self, request: Request, action: str, row: str, work: Callable[[Change], Any]) -> Any:
        visit = visit_of(request)
        change = Change(visit.account or "", visit.address, action, self.resource.name, row)
        async with visit.changes.log(change):
            return await work(change)

    def _read(
        self,
        request: Request,
        data: Mapping[str, Any],
        kind: Literal["Create", "Update"],
        read: Callable[[ColumnField | LinkField], Any],
    ) -> Values:
        """Return the values that a form sets, checked by the model of the REST body."""
        typed: Values = {}
        errors: dict[str | int, Any] = {}
        for field in self.columns:
            if field.name not in data:
                continue
            try:
                value = read(field)
            except UnreadableError as error:
                errors[field.name] = str(error)
                continue
            if value is not MISSING:
                typed[field.item.name] = value
        if not errors:
            try:
                body = body_model(self.resource, kind).model_validate_json(dump_json(typed))
            except ValidationError as error:
                for item in error.errors(include_url=False, include_context=False, include_input=False):
                    for name in self._names_of([str(part) for part in item["loc"][:1]]) or [""]:
                        errors.setdefault(name, item["msg"])
            else:
                return write_values(self.resource, body)
        if "" in errors:
            flash(request, str(errors.pop("")), "error")
        raise FormValidationError(errors)

    def _names_of(self, fields: Iterable[str]) -> list[str]:
        """The names in forms of columns, given by their public or database names."""
        wanted = set(fields)
        return [
            field.name
            for field in self.columns
            if field.item.name in wanted or getattr(field.item.column, "name", None) in wanted
        ]

    def _texts(self, row: Row, values: Mapping[str, Any]) -> dict[str, str | None]:
        return {
            name: display(row.values[name]) for name in values if name in row.values and name in self.resource.readable
        }

    def _where(self, q: str | None, filters: FilterGroup | None) -> list[Node]:
        try:
            nodes = nodes_of(filters, {field.name: field.filters or () for field in self.columns})
            if q:
                nodes.append(self._search(q))
        except (FilterValidationError, InvalidValueError) as error:
            raise HTTPException(400, str(error)) from None
        return nodes

    def _search(self, text: str) -> Node:
        """The text in a column of text, or in the key where that is a number."""
        check_text(text, _MAX_SEARCH)
        found: list[Node] = []
        if any(is_searchable(item) for item in self.resource.fields.values()):
            found.append(Search(text))
        for item in self.resource.key:
            if kind_of(item) is Kind.INTEGER and item.filterable:
                try:
                    found.append(Comparison(item, "eq", parse_text(item, "eq", text.strip())))
                except InvalidValueError:
                    continue
        if not found:
            raise HTTPException(400, "There is no column of text to search; use a filter.")
        return found[0] if len(found) == 1 else Or(tuple(found))

    def _order(self, sorts: Sequence[tuple[str, str]]) -> list[SortKey]:
        by_name = {field.name: field for field in self.columns if field.orderable}
        return [
            SortKey(by_name[name].item, descending=direction == "desc") for name, direction in sorts if name in by_name
        ][:10]


def _fields(resource: Resource, linked: Sequence[tuple[Linked, str]]) -> list[ColumnField | LinkField]:
    """The columns in their order; a relation takes the place of its only column, or follows its last one."""
    taken: set[str] = set()
    replaced: dict[str, tuple[Linked, str]] = {}
    following: dict[str, list[tuple[Linked, str]]] = {}
    for item, key in linked:
        if len(item.fields) == 1 and item.fields[0].name not in replaced:
            replaced[item.fields[0].name] = (item, key)
        else:
            following.setdefault(item.fields[-1].name, []).append((item, key))
    fields: list[ColumnField | LinkField] = []
    for column in resource.readable.values():
        if column.name in replaced:
            link, key = replaced[column.name]
            fields.append(LinkField(_name(link.relation.name, taken), link, key, replaces=True))
        else:
            fields.append(ColumnField(_name(column.name, taken), column))
        for link, key in following.get(column.name, ()):
            fields.append(LinkField(_name(link.relation.name, taken), link, key, replaces=False))
    return fields


def _made_by_server(item: Field) -> bool:
    return getattr(item.column, "server_default", None) is not None


def _name(wanted: str, taken: set[str]) -> str:
    """A name for URLs, form controls and scripts, which no other field of the view has."""
    name = wanted if _SAFE_NAME.fullmatch(wanted) and "__" not in wanted else f"column_{len(taken) + 1}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name
