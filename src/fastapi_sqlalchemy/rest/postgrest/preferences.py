"""The header Prefer (RFC 7240): what a client would like, and which of it was done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

from starlette.requests import Request

from ..query.errors import listed, shown
from .errors import failure

__all__ = ["Preferences", "Returned"]

Returned = Literal["minimal", "headers-only", "representation"]

_KNOWN: Final[dict[str, tuple[str, ...]]] = {
    "return": ("minimal", "headers-only", "representation"),
    "count": ("exact", "planned", "estimated"),
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "missing": ("default", "null"),
    "handling": ("strict", "lenient"),
}


@dataclass(frozen=True)
class Preferences:
    """The preferences of a request that are understood, the first of each name."""

    given: dict[str, str]

    @classmethod
    def of(cls, request: Request) -> Preferences:
        """Read the headers; with ``handling=strict`` what is not understood is a 400."""
        given: dict[str, str] = {}
        unknown: list[str] = []
        for header in request.headers.getlist("prefer"):
            for item in header.replace(";", ",").split(","):
                name, _, value = (part.strip() for part in item.partition("="))
                name, value = name.lower(), value.strip('"')
                if value in _KNOWN.get(name, ()) or (name == "max-affected" and _is_number(value)):
                    given.setdefault(name, value)
                elif name:
                    unknown.append(item.strip())
        if unknown and given.get("handling") == "strict":
            details = f"Invalid preferences: {listed(map(shown, unknown))}"
            raise failure(400, "PGRST122", "Invalid preferences given with handling=strict", details=details)
        return cls(given)

    @property
    def returned(self) -> Returned:
        """What the answer to a change holds."""
        return cast("Returned", self.given.get("return", "minimal"))

    @property
    def count(self) -> str | None:
        """How to count."""
        return self.given.get("count")

    @property
    def resolution(self) -> str | None:
        """What becomes of a new row that is there already."""
        return self.given.get("resolution")

    @property
    def missing_is_default(self) -> bool:
        """Whether a column that a row leaves out gets its default, rather than NULL."""
        return self.given.get("missing") == "default"

    @property
    def max_affected(self) -> int | None:
        """How many rows a change may touch; asked for with ``handling=strict`` alone."""
        if self.given.get("handling") != "strict" or "max-affected" not in self.given:
            return None
        return int(self.given["max-affected"])

    def applied(self, names: Iterable[str]) -> dict[str, str]:
        """Return the header Preference-Applied for those of these names that were asked for."""
        found = [f"{name}={self.given[name]}" for name in names if name in self.given]
        return {"Preference-Applied": ", ".join(found)} if found else {}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
