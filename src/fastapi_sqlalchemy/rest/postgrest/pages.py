"""Pages by limit, offset or the header Range, and the Content-Range of an answer (RFC 9110, 14.4, without a unit)."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request

from ..query.settings import QuerySettings
from .errors import failure

__all__ = ["content_range", "known_total", "read_range", "read_rows", "status_of"]

_RANGE: Final = re.compile(r"(?:items=)?(\d{1,18})-(\d{0,18})", re.ASCII)


def read_rows(parameter: str, text: str) -> int:
    """Return the number of rows that a limit or an offset gives."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise failure(400, "PGRST100", f"The parameter {parameter} must be a number of rows.")
    if text.startswith("-") and int(digits):
        raise _unsatisfiable(f"The parameter {parameter} must not be below zero.")
    return int(digits)


def read_range(request: Request, limit: int | None, offset: int, settings: QuerySettings) -> tuple[int, int]:
    """Return how many rows to read and how many to skip: what the query and the header Range have in common."""
    last = None if limit is None else offset + limit
    if request.method in ("GET", "HEAD"):
        found = _RANGE.fullmatch(request.headers.get("range", "").strip())
        if found is not None:
            lower, upper = int(found[1]), int(found[2]) + 1 if found[2] else None
            if upper is not None and upper <= lower:
                raise _unsatisfiable("The first row of the header Range comes after its last one.")
            offset = max(offset, lower)
            ends = [end for end in (last, upper) if end is not None]
            last = min(ends) if ends else None
    if offset > settings.max_offset:
        raise _unsatisfiable(f"At most {settings.max_offset} rows can be skipped.")
    size = settings.max_page_size if last is None else max(0, last - offset)
    return min(size, settings.max_page_size), offset


def content_range(first: int, number: int, total: int | None) -> dict[str, str]:
    """Return the header Content-Range: ``0-9/100``, ``*/0`` for no rows, ``/*`` when not counted."""
    rows = f"{first}-{first + number - 1}" if number and total != 0 else "*"
    return {"Content-Range": f"{rows}/{'*' if total is None else total}"}


def known_total(first: int, number: int, counted: int | None) -> int | None:
    """Return how many rows there are in all: no fewer than were read, whatever was counted or estimated."""
    return counted if counted is None or not number else max(counted, first + number)


def status_of(first: int, number: int, total: int | None, *, is_exact: bool = True) -> int:
    """Return 200 for all rows, 206 for some of them.

    Raises a 416 where the page starts past the last row, which an estimate cannot tell.
    """
    if total is None:
        return 200
    if first > total and is_exact:
        details = f"An offset of {first} was requested, but there are only {total} rows."
        raise _unsatisfiable(details, headers=content_range(0, 0, total))
    return 206 if number < total else 200


def _unsatisfiable(details: str, headers: dict[str, str] | None = None) -> Exception:
    error = failure(416, "PGRST103", "Requested range not satisfiable", details=details)
    error.problem.headers.update(headers or {"Content-Range": "*/*"})
    return error
