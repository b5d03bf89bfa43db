"""Rows as the bytes of a file: CSV, NDJSON, or one JSON array."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from .columns import Field
from .formats import escape_formula

__all__ = ["RowWriter"]

_Rows = Sequence[Sequence[Any]]
_QUOTED: Final = re.compile('["\r\n]')


class RowWriter:
    """Writes rows of some fields; a file is ``start``, then ``rows`` any number of times, then ``end``.

    In a CSV NULL is an empty cell and an empty text two quotes, as in PostgreSQL's COPY.
    """

    def __init__(
        self, fields: Sequence[Field], file_format: str, *, delimiter: str = ",", escapes: bool = True
    ) -> None:
        self.fields = list(fields)
        self.file_format = file_format
        self.delimiter = delimiter
        self.escapes = escapes

    def start(self) -> bytes:
        """What stands before the first row."""
        if self.file_format == "json":
            return b"["
        if self.file_format == "ndjson":
            return b""
        return self._line([self._cell(field.name, is_text=True) for field in self.fields]).encode()

    def rows(self, rows: _Rows, *, first: bool) -> bytes:
        """Some rows; ``first`` says that none were written before."""
        if not rows:
            return b""
        if self.file_format == "csv":
            return self._csv(rows).encode()
        columns = [
            values if field.to_json is None else [None if v is None else field.to_json(v) for v in values]
            for field, values in zip(self.fields, zip(*rows, strict=True), strict=True)
        ]
        names = [field.name for field in self.fields]
        lines = [_dump(dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]
        if self.file_format == "ndjson":
            return ("\n".join(lines) + "\n").encode()
        return (("\n" if first else ",\n") + ",\n".join(lines)).encode()

    def end(self) -> bytes:
        """What stands behind the last row."""
        return b"\n]\n" if self.file_format == "json" else b""

    def _csv(self, rows: _Rows) -> str:
        columns: list[list[str]] = []
        for field, values in zip(self.fields, zip(*rows, strict=True), strict=True):
            convert, is_text = field.to_text, field.is_text
            texts = values if convert is None else [None if value is None else convert(value) for value in values]
            columns.append(["" if text is None else self._cell(text, is_text=is_text) for text in texts])
        return "".join(map(self._line, zip(*columns, strict=True)))

    def _line(self, cells: Sequence[str]) -> str:
        return self.delimiter.join(cells) + "\r\n"

    def _cell(self, text: str, *, is_text: bool) -> str:
        if is_text and self.escapes:
            text = escape_formula(text)
        if not text or self.delimiter in text or _QUOTED.search(text) or text[0] == " " or text[-1] == " ":
            return '"' + text.replace('"', '""') + '"'
        return text


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
