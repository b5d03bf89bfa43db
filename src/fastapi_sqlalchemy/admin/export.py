"""Export of a list as CSV or JSON, with the escaping of the REST layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import anyio.to_thread
from starlette.responses import Response
from starlette_admin.export import BaseExporter, ExportContext

from ..rest.fields import Field
from ..rest.serialize import Serializer, dump_json
from .rows import Row

__all__ = ["CSVExport", "JSONExport"]


class RowExport(BaseExporter):
    """Writes whole rows: every column that may be seen, of those that were chosen."""

    async def build_response(self, ctx: ExportContext) -> Response:
        """Return the file."""
        fields: list[Field] = [item for field in ctx.fields for item in field.columns]  # type: ignore[attr-defined]
        rows: Sequence[Row] = [row["_row"] for row in ctx.rows]

        def work() -> bytes:
            return self.written(fields, [[row.values.get(item.name) for item in fields] for row in rows])

        content = await anyio.to_thread.run_sync(work)  # other requests are served meanwhile
        name = quote(f"{ctx.filename[:100]}.{self.extension}", safe="")
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return Response(content, headers=headers, media_type=self.content_type)

    def written(self, fields: Sequence[Field], rows: Sequence[Sequence[Any]]) -> bytes:
        """Return the content of the file."""
        raise NotImplementedError

    async def generate(self, fields: Any, rows: Any) -> bytes:
        """Not used: the response is built of the rows themselves."""
        raise NotImplementedError


class CSVExport(RowExport):
    """CSV (RFC 4180); a cell that a spreadsheet would run is escaped with an apostrophe."""

    content_type = "text/csv; charset=utf-8"
    extension = "csv"

    def written(self, fields: Sequence[Field], rows: Sequence[Sequence[Any]]) -> bytes:
        """Return the content of the file."""
        serializer = Serializer(fields)
        return serializer.csv_header() + serializer.csv_rows(rows)


class JSONExport(RowExport):
    """A JSON array of objects."""

    content_type = "application/json"
    extension = "json"

    def written(self, fields: Sequence[Field], rows: Sequence[Sequence[Any]]) -> bytes:
        """Return the content of the file."""
        return dump_json(Serializer(fields).objects(rows))
