"""The list endpoint: a page as JSON, or every row as CSV or NDJSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import sqlalchemy as sa
from fastapi.exceptions import RequestValidationError
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from .endpoints import JSON, Endpoints
from .fast.work import GiveWay, Work, processed, total_of
from .operations import read
from .operations.export import Chunk, Position, read_chunk
from .operations.rows import Row, Target, dialect_of
from .ownership import Ownership
from .pagination import Page, make_page
from .parameters import query_pairs
from .query import ListQuery, Ordering, Planned, Plans, QueryError, Segment, compile_filters
from .route import path_of
from .selection import Selection, reached_by, read_query
from .serialize import Serializer, dump_json, dump_lines

__all__ = ["CSV", "NDJSON", "Listing"]

CSV = "text/csv"
NDJSON = "application/x-ndjson"


class Listing:
    """The list endpoint of one router."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.resource = endpoints.resource
        self.settings = endpoints.settings
        self.serializer = Serializer(endpoints.shape.readable)
        self.plans = Plans(self.resource)
        self._probe: sa.Select[Any] | None = None

    async def read_page(self, request: Request, scope: Any) -> Response:
        """A page of rows, or all of them as a stream."""
        pairs = query_pairs(request)
        query = read_query(self.resource, pairs, self.settings.query)
        selection = Selection(self.resource, query.fields, query.include)
        kind = media_type(request.headers.get("accept"))
        if kind == CSV and selection.tree:
            msg = "include has no place in a CSV; ask for JSON or NDJSON"
            raise RequestValidationError([{"loc": ["query", "include"], "msg": msg, "type": "unsupported"}])
        target = await self.endpoints.target(request, scope, [*selection.targets(), *reached_by(query.filters)])
        try:
            if kind == JSON:
                return await self._page(request, target, query, selection)
            return await self._stream(request, target, query, selection, kind)
        except QueryError as error:
            raise RequestValidationError(error.errors) from None

    async def _page(self, request: Request, target: Target, query: ListQuery, selection: Selection) -> Response:
        hooked = "after_read" in self.settings.hooks
        direct = selection.is_whole and not hooked and self.endpoints.presentation.is_direct
        read_page = self._read_rows if direct else self._read_objects

        def work(session: Session) -> Page:
            return read_page(session, request, target, query, selection)

        page = await self._read_shortly(request, target, query, selection) if direct else None
        if page is None:
            page = await self.endpoints.run(work, read_only=True)
        if direct:
            items: Any = self.serializer.objects(page.rows)
        else:
            items = page.rows if selection.chosen else self.endpoints.presentation.shaped(page.rows)
        content = {"items": items, "next": page.next, "total": page.total} if self.settings.envelope else items
        return Response(dump_json(content), headers=page.headers, media_type=JSON)

    def _read_rows(
        self, session: Session, request: Request, target: Target, query: ListQuery, selection: Selection
    ) -> Page:
        """The page as tuples, which hold nothing that the page or its cursors do not need."""
        if target.ownership.is_open:
            return self._read_plan(session, request, query, selection)
        where, ordering, wanted = self._prepare(session, target, query, selection)
        places = ordering.values_of(wanted.fields)
        if places is not None:
            wanted.extra = ()
        rows = read.read_rows(session, target, wanted)
        total = self._count(session, target, query, where)
        return self._make(request, query, ordering, rows, places, total)

    def _read_plan(self, session: Session, request: Request, query: ListQuery, selection: Selection) -> Page:
        """The same, with a statement that was built for an earlier request of this shape."""
        dialect = dialect_of(session)
        fields = selection.fields
        planned = self._plan(query, selection, dialect)
        rows = read.read_planned(session, planned, fields)
        total: int | None = None
        if query.count == "exact":
            statement, parameters = self.plans.count(query, dialect)
            total = int(session.execute(statement, parameters).scalar_one())
        elif query.count == "estimated":
            target = Target(self.resource, Ownership(self.resource), self.settings.hooks)
            total = read.estimate_rows(session, target, compile_filters(query, self.resource, dialect))
        return self._make(request, query, planned.ordering, rows, planned.ordering.values_of(fields), total)

    async def _read_shortly(
        self, request: Request, target: Target, query: ListQuery, selection: Selection
    ) -> Page | None:
        found = await self.read_shortly(target, query, selection)
        if found is None:
            return None
        planned, rows, total = found
        ordering = planned.ordering
        return self._make(request, query, ordering, rows, ordering.values_of(selection.fields), total)

    async def read_shortly(
        self, target: Target, query: ListQuery, selection: Selection
    ) -> tuple[Planned, list[Row], int | None] | None:
        """Read the rows of a page and one more without a session, where nobody can tell, and count them if asked to.

        None where the session has to do it: what is seen depends on the caller, or a value is not plain.
        """
        if not target.ownership.is_open or query.count == "estimated":
            return None
        reads = self.endpoints.short_way.open()
        if reads is None:
            return None
        planned = self._plan(query, selection, reads.dialect)
        counting = self.plans.count(query, reads.dialect) if query.count == "exact" else None
        snapshot = counting is not None or len(planned.statements) > 1
        probe = self.probe(query, reads.dialect)
        try:
            rows, total = await reads.run(_page_and_total(planned, counting, probe), snapshot=snapshot)
        except GiveWay:
            return None
        return planned, rows, total

    def probe(self, query: ListQuery, dialect: sa.Dialect) -> sa.Select[Any] | None:
        """Return what tells at once about how many rows SQLite would count, or None where it can be interrupted.

        It counts a whole table in one step of its machine, however long that takes: see `check_size`.
        """
        if query.count != "exact" or dialect.name != "sqlite" or query.is_filtered or self.resource.criteria:
            return None
        if self._probe is None:
            self._probe = sa.select(sa.literal_column("max(rowid)", sa.Integer())).select_from(self.resource.table)
        return self._probe

    def plan(self, query: ListQuery, dialect: sa.Dialect) -> Planned:
        """Return the statements of a page of whole rows."""
        return self._plan(query, Selection(self.resource), dialect)

    def page_of(
        self,
        query: ListQuery,
        planned: Planned,
        rows: list[Row],
        path: str,
        pairs: list[tuple[str, str]],
        total: int | None,
    ) -> Page:
        """Return the page of whole rows that the statements of `plan` gave."""
        return make_page(
            query,
            planned.ordering,
            rows,
            places=planned.ordering.values_of(tuple(self.resource.readable.values())),
            path=path,
            params=pairs,
            total=total,
            cursor_key=self.settings.query.cursor_key,
        )

    def _plan(self, query: ListQuery, selection: Selection, dialect: sa.Dialect) -> Planned:
        fields = selection.fields

        def select(ordering: Ordering) -> sa.Select[Any]:
            source = self.resource.source()
            columns = [item.column for item in fields]
            if ordering.has_cursors and query.style == "cursor" and ordering.values_of(fields) is None:
                columns += ordering.columns()
            return sa.select(*columns).select_from(source.selectable).where(*source.criteria)

        return self.plans.page(query, dialect, (selection.chosen, query.style), select)

    def _read_objects(
        self, session: Session, request: Request, target: Target, query: ListQuery, selection: Selection
    ) -> Page:
        """The page as objects, with relations and after the hook."""
        where, ordering, wanted = self._prepare(session, target, query, selection)
        objects, values = read.read_objects(session, target, wanted)
        rows = [(*row, item) for row, item in zip(values, objects, strict=True)]
        places = tuple(range(len(wanted.extra)))
        page = self._make(request, query, ordering, rows, places, self._count(session, target, query, where))
        page.rows[:] = [row[-1] for row in page.rows]
        return page

    def _prepare(
        self, session: Session, target: Target, query: ListQuery, selection: Selection
    ) -> tuple[list[Any], Ordering, read.Page]:
        dialect = dialect_of(session)
        ordering = Ordering(self.resource, query.sort, dialect)
        where = compile_filters(query, self.resource, dialect, target.ownership.criteria)
        by_offset = query.style == "offset"
        wanted = read.Page(
            selection.fields,
            where=where,
            segments=[Segment([], ordering.order_by())]
            if by_offset
            else ordering.segments(query.cursor, whole=query.is_filtered),
            limit=query.limit + 1,
            offset=query.skip,
            extra=ordering.columns() if ordering.has_cursors and not by_offset else (),
            tree=selection.tree,
        )
        return where, ordering, wanted

    def _count(self, session: Session, target: Target, query: ListQuery, where: list[Any]) -> int | None:
        if query.count == "none":
            return None
        count: Callable[..., int] = read.count_rows if query.count == "exact" else read.estimate_rows
        return count(session, target, where)

    def _make(
        self,
        request: Request,
        query: ListQuery,
        ordering: Ordering,
        rows: list[Row],
        places: tuple[int, ...] | None,
        total: int | None,
    ) -> Page:
        return make_page(
            query,
            ordering,
            rows,
            places=places,
            path=path_of(request),
            params=request.query_params.multi_items(),
            total=total,
            cursor_key=self.settings.query.cursor_key,
        )

    async def _stream(
        self, request: Request, target: Target, query: ListQuery, selection: Selection, kind: str
    ) -> Response:
        """Every row that the filter finds, at most ``limit`` where it was given, some thousands of rows at a time."""
        position = Position(query, query.limit if "limit" in request.query_params else None)

        def work(session: Session) -> Chunk:
            return read_chunk(session, target, position, selection.fields, selection.tree)

        write = self._csv_writer(selection) if kind == CSV else self._line_writer(selection)
        # The first rows are read before the response starts, so that what fails does so with a status.
        first = await self.endpoints.run(work, read_only=True)
        media = "text/csv; charset=utf-8; header=present" if kind == CSV else kind
        if request.method == "HEAD":
            return Response(media_type=media)

        async def body() -> AsyncIterator[bytes]:
            if kind == CSV:
                yield Serializer(selection.fields).csv_header()
            chunk = first
            while True:
                written = 0
                for part in chunk.parts():
                    data = write(part)
                    written += len(data)
                    yield data
                if position.is_done:
                    return
                position.pace(chunk.seconds, written)
                chunk = await self.endpoints.run(work, read_only=True)

        return StreamingResponse(body(), media_type=media)

    def _csv_writer(self, selection: Selection) -> Callable[[Chunk], bytes]:
        serializer = Serializer(selection.fields)
        return lambda chunk: serializer.csv_objects(chunk.objects)

    def _line_writer(self, selection: Selection) -> Callable[[Chunk], bytes]:
        if selection.chosen or self.endpoints.presentation.is_direct:
            return lambda chunk: dump_lines(chunk.objects)
        return lambda chunk: dump_lines(self.endpoints.presentation.shaped(chunk.objects))


def _page_and_total(
    planned: Planned, counting: tuple[sa.Select[Any], dict[str, Any]] | None, probe: sa.Select[Any] | None
) -> Work[tuple[list[Row], int | None]]:
    """The rows of a page, and how many there are in all where ``counting`` is the statement for that."""
    rows = yield from processed(planned.steps())
    if counting is None:
        return rows, None
    total = yield from total_of(counting, probe)
    return rows, total


def media_type(accept: str | None) -> str:
    """Return what to answer to an Accept header (RFC 9110, 12.5.1): JSON unless CSV or NDJSON is preferred."""
    if not accept or ("csv" not in accept and "ndjson" not in accept):
        return JSON
    best, highest = JSON, 0.0
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        kind = {CSV: CSV, NDJSON: NDJSON, "application/ndjson": NDJSON, JSON: JSON, "*/*": JSON}.get(name)
        if kind is not None and weight > highest:
            best, highest = kind, weight
    return best
