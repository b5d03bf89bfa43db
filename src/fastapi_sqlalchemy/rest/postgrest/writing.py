"""POST, PATCH and DELETE: rows inserted, merged, changed and deleted, and answered as Prefer asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from ..operations import read, write
from ..operations.bulk import TooManyRowsError, among_keys, bulk_delete, bulk_update, matching_keys
from ..operations.rows import Row, Shape, Target, dialect_of
from ..operations.upsert import conflict_targets, insert_new, upsert
from ..query import compile_nodes
from ..query.errors import listed, shown
from ..resource import Resource
from ..route import path_of
from ..serialize import plain
from .answers import Answer, answer_for
from .errors import failure, not_supported
from .pages import content_range
from .payload import read_changes, read_new_rows
from .plan import Level, Plan
from .preferences import Preferences
from .reader import read_plan
from .reading import names_of, wanted_page
from .tables import Served, Tables

__all__ = ["change_rows", "delete_rows", "insert_rows"]

Key: TypeAlias = "tuple[Any, ...]"


class _Change:
    """One request that changes rows: what it asks for, and how it wants to be answered."""

    def __init__(self, request: Request, tables: Tables, served: Served) -> None:
        self.request = request
        self.served = served
        self.preferences = Preferences.of(request)
        self.answer = answer_for(request)
        pairs = served.pairs(request)
        settings = served.work.settings.query
        self.plan: Plan = read_plan(served.resource, tables.names, pairs, settings, served.family)
        self.level: Level = self.plan.level

    @property
    def is_answered(self) -> bool:
        """Whether the client wants the rows back."""
        return self.preferences.returned == "representation"

    async def target(self) -> Target:
        """Return what is changed: the rows that the caller may see."""
        return await self.served.changed(self.request, self.plan.reached())

    def where(self, session: Session, target: Target) -> list[Any]:
        """Return the criteria of the rows to change."""
        return compile_nodes(self.level.nodes, target.resource, dialect_of(session), target.ownership.criteria)

    def check_filter(self) -> None:
        """Raise a 400 where all rows of the table are meant, or a page of them."""
        if self.level.limit is not None or self.level.offset:
            raise not_supported("A change of a page of rows is not supported.", hint="Name the rows by a filter.")
        if not self.level.nodes:
            raise failure(400, "21000", "A change of rows needs a filter.", hint="Such as id=eq.1.")

    @property
    def max_affected(self) -> int:
        """The most rows that may be changed."""
        wanted = self.preferences.max_affected
        allowed = self.served.work.settings.max_affected
        return allowed if wanted is None else min(wanted, allowed)

    def response(self, status: int, objects: Sequence[Any], headers: dict[str, str]) -> Response:
        """Return the response to a change that was made."""
        headers = headers | self.preferences.applied(
            ("resolution", "missing", "return", "count", "handling", "max-affected")
        )
        if not self.is_answered:
            return Response(status_code=204 if status == 200 else status, headers=headers)
        return self.answer.response(objects, names_of(self.level), status, headers)


async def insert_rows(request: Request, tables: Tables, served: Served) -> Response:
    """Answer a POST: insert, or merge with the rows that are there, or leave those as they are."""
    change = _Change(request, tables, served)
    resolution = change.preferences.resolution
    conflict = _conflict(served.resource, change.plan) if resolution is not None else ()
    target = await change.target()
    defaults = change.preferences.missing_is_default
    presets = target.ownership.presets()
    rows = await read_new_rows(request, served, change.plan.columns, presets, defaults=defaults)
    shape = Shape.of(served.resource)

    def work(session: Session) -> tuple[list[Key], list[Any]]:
        stored = _store(session, target, rows, resolution, conflict)
        keys = [shape.key(row) for row in stored]
        return keys, _answered(session, change, target, keys)

    keys, objects = await served.work.change(target, work)
    headers = content_range(0, 0, len(keys) if change.preferences.count else None)
    if change.preferences.returned == "headers-only" and len(keys) == 1:
        headers["Location"] = f"{path_of(request)}?{_query_of(served.resource, keys[0])}"
    return change.response(201, objects, headers)


async def change_rows(request: Request, tables: Tables, served: Served) -> Response:
    """Answer a PATCH: the same values for all rows that the filter finds."""
    change = _Change(request, tables, served)
    change.check_filter()
    target = await change.target()
    values = await read_changes(request, served, change.plan.columns)

    def work(session: Session) -> tuple[int, list[Any]]:
        where = change.where(session, target)
        if not values:
            return 0, []
        if not change.is_answered:
            return bulk_update(session, target, where, values, change.max_affected), []
        keys = matching_keys(session, target, where, change.max_affected)
        if keys:
            bulk_update(
                session, target, [among_keys(session, target.resource, keys)], dict(values), change.max_affected
            )
        return len(keys), _answered(session, change, target, keys)

    number, objects = await _bounded(change, target, work)
    headers = content_range(0, number, number if change.preferences.count else None)
    return change.response(200, objects, headers)


async def delete_rows(request: Request, tables: Tables, served: Served) -> Response:
    """Answer a DELETE: all rows that the filter finds."""
    change = _Change(request, tables, served)
    change.check_filter()
    target = await change.target()

    def work(session: Session) -> tuple[int, list[Any]]:
        where = change.where(session, target)
        if not change.is_answered:
            return bulk_delete(session, target, where, change.max_affected), []
        keys = matching_keys(session, target, where, change.max_affected)
        objects = _answered(session, change, target, keys)
        if keys:
            bulk_delete(session, target, [among_keys(session, target.resource, keys)], change.max_affected)
        return len(keys), objects

    number, objects = await _bounded(change, target, work)
    return change.response(200, objects, content_range(0, 0, number if change.preferences.count else None))


async def _bounded(
    change: _Change, target: Target, work: Callable[[Session], tuple[int, list[Any]]]
) -> tuple[int, list[Any]]:
    try:
        return await change.served.work.change(target, work)
    except TooManyRowsError:
        details = f"The change touches more than {change.max_affected} rows."
        message = "Query result exceeds max-affected preference constraint"
        raise failure(400, "PGRST124", message, details=details) from None


def _store(
    session: Session, target: Target, rows: list[dict[str, Any]], resolution: str | None, conflict: Sequence[str]
) -> list[Row]:
    """Insert or merge rows and return them in order; a row without a value of the key is a new one."""
    if not rows:
        return []
    if resolution is None:
        return write.create(session, target, rows)
    presets = target.ownership.presets()
    is_new = [any({**row, **presets}.get(name) is None for name in conflict) for row in rows]
    known = [row for row, new in zip(rows, is_new, strict=True) if not new]
    merge = upsert if resolution == "merge-duplicates" else insert_new
    merged = merge(session, target, known, conflict) if known else []
    created = write.create(session, target, [row for row, new in zip(rows, is_new, strict=True) if new])
    if len(merged) < len(known):
        return [*merged, *created]
    sources = {True: iter(created), False: iter(merged)}
    return [next(sources[new]) for new in is_new]


def _answered(session: Session, change: _Change, target: Target, keys: Sequence[Key]) -> list[Any]:
    """The rows with these keys as objects, in the order of the request or of the keys."""
    if not change.is_answered:
        return []
    answer: Answer = change.answer
    if not keys:
        answer.check(0)
        return []
    page = wanted_page(session, target, change.level, [among_keys(session, target.resource, keys)], None, 0)
    page.extra = [item.column for item in target.resource.key]
    objects, found = read.read_objects(session, target, page)
    answer.check(len(objects))
    if change.level.sort or len(objects) != len(found):  # a hook may leave rows out
        return objects
    by_key = dict(zip(found, objects, strict=True))
    return [by_key[key] for key in keys if key in by_key]


def _conflict(resource: Resource, plan: Plan) -> tuple[str, ...]:
    """The fields that tell whether a row is there: those of ``on_conflict``, or the key."""
    wanted = plan.on_conflict or tuple(item.name for item in resource.key)
    allowed = conflict_targets(resource)
    for candidate in allowed:
        if set(candidate) == set(wanted):
            return candidate
    raise failure(
        400,
        "42P10",
        f"No key and no unique constraint of {resource.name} has the columns {shown(', '.join(wanted))}.",
        hint=f"There is: {listed(','.join(names) for names in allowed)}.",
    )


def _query_of(resource: Resource, key: Key) -> str:
    values = (plain(value) if not isinstance(value, (str, int)) else value for value in key)
    pairs = zip(resource.key, values, strict=True)
    return "&".join(f"{quote(item.name)}=eq.{quote(str(value), safe='')}" for item, value in pairs)
