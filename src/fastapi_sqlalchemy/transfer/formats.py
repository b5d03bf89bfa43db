"""The formats of files: CSV (RFC 4180), NDJSON, and JSON as one array of objects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ..exceptions import ConfigurationError

__all__ = ["FORMATS", "escape_formula", "format_of", "unescape_formula"]

FORMATS: Final = ("csv", "ndjson", "json")
_SUFFIXES: Final = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json"}
_START = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(f"'*[{_START}]")
_ESCAPED = re.compile(f"'+[{_START}]")


def format_of(path: str, given: str | None) -> str:
    """The format that was asked for, or that of the file's suffix; raises `ConfigurationError` where neither tells."""
    if given is not None:
        if given not in FORMATS:
            raise ConfigurationError(f"There is no format {given!r}; choose one of {', '.join(FORMATS)}.")
        return given
    found = _SUFFIXES.get(Path(path.removesuffix(".part")).suffix.lower())
    if found is None:
        raise ConfigurationError(f"The name {path} does not tell its format; give --format {'|'.join(FORMATS)}.")
    return found


def escape_formula(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would run (OWASP, "CSV Injection").

    So that `unescape_formula` gives every text back, one that looks escaped already gets a further apostrophe.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(text: str) -> str:
    """What `escape_formula` was given."""
    return text[1:] if text.startswith("'") and _ESCAPED.match(text) else text
