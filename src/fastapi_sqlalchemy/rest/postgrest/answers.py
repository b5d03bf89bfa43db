"""Media types of answers: an array, one object, CSV; with or without members that are null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from ..narrowing import is_dict, is_items
from ..query.errors import shown
from ..serialize import csv_header, csv_objects, dump_json
from .errors import failure

__all__ = ["Answer", "answer_for"]

_OBJECT: Final = "application/vnd.pgrst.object+json"
_ARRAY: Final = "application/vnd.pgrst.array+json"
_KINDS: Final[dict[str, Literal["json", "object", "csv"]]] = {
    "application/json": "json",
    "application/*": "json",
    "*/*": "json",
    _ARRAY: "json",
    _OBJECT: "object",
    "application/vnd.pgrst.object": "object",
    "text/csv": "csv",
    "text/*": "csv",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The form in which a client wants rows."""

    kind: Literal["json", "object", "csv"] = "json"
    stripped: bool = False
    media_type: str = "application/json"

    def check(self, number: int) -> None:
        """Raise a 406 where one object is wanted and there are more rows, or none."""
        if self.kind == "object" and number != 1:
            details = f"The result contains {number} rows"
            raise failure(406, "PGRST116", "Cannot coerce the result to a single JSON object", details=details)

    def response(self, objects: Sequence[Any], names: Sequence[str], status: int, headers: dict[str, str]) -> Response:
        """Return the response that holds rows; ``names`` are the columns of a CSV."""
        self.check(len(objects))
        if self.kind == "csv":
            content = csv_header(names) + csv_objects(names, [item for item in objects if is_dict(item)])
            return Response(content, status, headers, media_type="text/csv; charset=utf-8")
        found: Any = [_stripped(item) for item in objects] if self.stripped else objects
        content = dump_json(found[0] if self.kind == "object" else found, numbers=True)
        return Response(content, status, headers, media_type=f"{self.media_type}; charset=utf-8")


def answer_for(request: Request) -> Answer:
    """Return the form that the header Accept asks for; raises a 406 where there is none of it."""
    accept = request.headers.get("accept") or "*/*"
    best, highest = None, 0.0
    for part in accept.split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        kind, weight = _KINDS.get(name.lower()), 1.0
        given = {key.strip(): value.strip() for key, _, value in (item.partition("=") for item in parameters)}
        if "q" in given:
            try:
                weight = float(given["q"])
            except ValueError:
                weight = 0.0
        if kind is not None and weight > highest:
            stripped = given.get("nulls") == "stripped" and "vnd.pgrst" in name
            media = name.lower() if kind != "csv" and "vnd.pgrst" in name else "application/json"
            media = f"{media}; nulls=stripped" if stripped else media
            best, highest = Answer(kind, stripped, media), weight
    if best is None:
        raise failure(406, "PGRST107", f"None of these media types are available: {shown(accept)}")
    return best


def _stripped(value: Any) -> Any:
    if is_dict(value):
        return {name: _stripped(item) for name, item in value.items() if item is not None}
    if is_items(value):
        return [_stripped(item) for item in value]
    return value
