"""Spans of OpenTelemetry for every statement, below the span that is current, such as FastAPI's own of the endpoint.

Names and attributes are those of the semantic conventions for database client spans
(https://opentelemetry.io/docs/specs/semconv/database/database-spans/). A span has the statement's text with its
placeholders, never the parameters; what stands in the text as a literal is replaced by ``?``.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext

from ..exceptions import MissingExtraError
from ..web.sqlstate import driver_error
from .engine_events import EngineEvents, Listener
from .statement import without_literals

try:
    from opentelemetry import trace
    from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider
except ImportError:
    raise MissingExtraError(
        'Tracing needs opentelemetry-api. Install it with: pip install "fastapi-sqlalchemy[tracing]"'
    ) from None

__all__ = ["Tracing"]

_SPAN = "_fastapi_sqlalchemy_span"
_SYSTEMS = {"mysql": "mysql", "mariadb": "mariadb", "mssql": "microsoft.sql_server", "oracle": "oracle.db"}
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+(?:ONLY\s+)?([\w.\"`\[\]]+)", re.IGNORECASE)
_MAX_TEXT = 8192


class Tracing:
    """Makes a span for every statement of every database of this process, from now on and until ``close()``.

    ``tracer_provider`` is the global one unless given.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self.tracer = trace.get_tracer("fastapi_sqlalchemy", tracer_provider=tracer_provider)
        self._events = EngineEvents(self._listeners)

    def close(self) -> None:
        """Make no more spans."""
        self._events.close()

    def _listeners(self, engine: Engine) -> list[Listener]:
        common = _attributes(engine)

        def before(
            _connection: Connection, _cursor: Any, statement: str, parameters: Any, context: Any, many: bool
        ) -> None:
            text = without_literals(statement)
            operation = (text.split(None, 1) or [""])[0].upper()
            table = _TABLE.search(text)
            attributes = {**common, "db.query.text": text[:_MAX_TEXT], "db.operation.name": operation}
            if table is not None:
                attributes["db.collection.name"] = table[1].strip('"`[]')
            if many and len(parameters) > 1:
                attributes["db.operation.batch.size"] = len(parameters)
            name = " ".join(part for part in (operation, str(attributes.get("db.collection.name", ""))) if part)
            setattr(context, _SPAN, self.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes))

        def after(
            _connection: Connection, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool
        ) -> None:
            span: Span | None = getattr(context, _SPAN, None)
            if span is not None:
                span.end()

        def failed(context: ExceptionContext) -> None:
            span: Span | None = getattr(context.execution_context, _SPAN, None)
            if span is not None and span.is_recording():
                error = driver_error(context.original_exception)
                kind = type(error)
                span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}")
                state = getattr(error, "sqlstate", None)
                if isinstance(state, str):
                    span.set_attribute("db.response.status_code", state)
                span.set_status(StatusCode.ERROR)  # without the message, which may quote a value
                span.end()

        return [("before_cursor_execute", before), ("after_cursor_execute", after), ("handle_error", failed)]


def _attributes(engine: Engine) -> dict[str, str | int]:
    url = engine.url
    name = engine.dialect.name
    found: dict[str, str | int] = {"db.system.name": _SYSTEMS.get(name, name)}
    if url.database:
        found["db.namespace"] = url.database
    if url.host:
        found["server.address"] = url.host
        if url.port:
            found["server.port"] = url.port
    return found
