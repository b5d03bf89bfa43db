"""Records out of a file, one at a time: CSV, NDJSON, and a JSON array that is read as a stream."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

from ..exceptions import BadRowError
from ..rest.narrowing import is_dict
from .columns import ExactFloat
from .formats import unescape_formula

__all__ = ["MAX_RECORD", "Options", "Record", "read_records"]

MAX_RECORD = 64 * 1024 * 1024
"""Bytes that one record may have; what is larger is taken for a quote or bracket that never ends."""

_CHUNK = 64 * 1024

Record = tuple[int, tuple[str, ...], list[Any]]
"""The line where it starts, the names of its columns, and a value for each: text or None in a CSV."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a CSV is written: the ``delimiter``, a text that stands for NULL beside the empty cell, no ``escapes``."""

    delimiter: str = ","
    null: str | None = None
    escapes: bool = True


def read_records(
    source: IO[bytes], file_format: str, options: Options, count: Callable[[int], None]
) -> Iterator[Record]:
    """Yield the records of a file in constant memory; ``count`` is told of the bytes that were read.

    Raises `BadRowError` for what cannot be read as a record.
    """
    reader = {"csv": _read_csv, "ndjson": _read_lines, "json": _read_array}[file_format]
    return reader(source, options, count)


class _Lines:
    """The lines of a CSV as text; ``taken`` are those of the record that is being read."""

    def __init__(self, source: IO[bytes], count: Callable[[int], None]) -> None:
        self.source = source
        self.count = count
        self.taken: list[str] = []
        self.number = 0
        self.start = 1
        self.size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.source.readline(MAX_RECORD + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.size += len(line)
        self.count(len(line))
        if self.size > MAX_RECORD:
            raise BadRowError(self.start, "the row does not end; a quote may be missing")
        try:
            text = line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise BadRowError(self.number, "the text is not UTF-8") from None
        self.taken.append(text)
        return text

    def next_record(self) -> None:
        self.taken.clear()
        self.start = self.number + 1
        self.size = 0


def _read_csv(source: IO[bytes], options: Options, count: Callable[[int], None]) -> Generator[Record, None, None]:
    lines = _Lines(source, count)
    before = csv.field_size_limit(MAX_RECORD)
    reader = csv.reader(lines, delimiter=options.delimiter, strict=True)
    try:
        header = _next(reader, lines)
        if header is None:
            return
        names = tuple(unescape_formula(name) if options.escapes else name for name in header)
        width = len(names)
        quoted = _quoted_cells(options.delimiter)
        lines.next_record()
        while (row := _next(reader, lines)) is not None:
            if row or width == 1:
                if len(row) != width:
                    if row or width > 1:
                        raise BadRowError(lines.start, f"the row has {len(row)} cells and the header {width}")
                    row = [""]
                values: list[Any] = row
                if "" in row:
                    values = _with_nulls(row, "".join(lines.taken), quoted)
                if options.null is not None:
                    values = [None if value == options.null else value for value in values]
                yield lines.start, names, values
            lines.next_record()
    finally:
        csv.field_size_limit(before)


def _next(reader: Iterator[list[str]], lines: _Lines) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise BadRowError(lines.start, f"it is no CSV: {error}") from None


def _quoted_cells(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(f'(?:^|{mark})("(?:[^"]|"")*"|[^{mark}]*)')


def _with_nulls(row: list[str], raw: str, quoted: re.Pattern[str]) -> list[Any]:
    """An empty cell is NULL; one that is written as two quotes is an empty text, as in PostgreSQL's COPY."""
    if '""' not in raw:
        return [value or None for value in row]
    cells: list[str] = quoted.findall(raw.rstrip("\r\n"))
    return [value or ("" if cell.startswith('"') else None) for value, cell in zip(row, cells, strict=True)]


def _read_lines(source: IO[bytes], _options: Options, count: Callable[[int], None]) -> Generator[Record, None, None]:
    number = 0
    decode = json.JSONDecoder(parse_float=ExactFloat).decode
    while line := source.readline(MAX_RECORD + 1):
        number += 1
        count(len(line))
        if len(line) > MAX_RECORD:
            raise BadRowError(number, "the line does not end")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                yield _record(number, decode(text))
        except UnicodeDecodeError:
            raise BadRowError(number, "the text is not UTF-8") from None
        except (json.JSONDecodeError, RecursionError) as error:
            raise BadRowError(number, f"it is no JSON: {error}") from None


def _record(line: int, value: Any) -> Record:
    if not is_dict(value):
        raise BadRowError(line, "it is no JSON object")
    return line, tuple(cast("dict[str, Any]", value)), list(value.values())


class _Text:
    """The text of a file that is read a chunk at a time; ``at`` is where reading stands in what is in memory."""

    def __init__(self, source: IO[bytes], count: Callable[[int], None]) -> None:
        self.source = source
        self.count = count
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False

    def more(self) -> bool:
        """Read on, twice as far each time that a record did not fit; False at the end."""
        if self.ended:
            return False
        rest = len(self.text) - self.at
        if rest > MAX_RECORD:
            raise BadRowError(self.line, "the object does not end; a bracket may be missing")
        data = self.source.read(max(_CHUNK, rest))
        self.count(len(data))
        self.ended = not data
        try:
            self.text = self.text[self.at :] + self.decoder.decode(data, final=self.ended)
        except UnicodeDecodeError:
            raise BadRowError(self.line, "the text is not UTF-8") from None
        self.at = 0
        return not self.ended

    def move(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def peek(self) -> str:
        """The next character that is no white space, or nothing at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            assert found is not None
            self.move(found.end())
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, *expected: str) -> str:
        found = self.peek()
        if found not in expected:
            shown = repr(found) if found else "the end of the file"
            raise BadRowError(self.line, f"it is no JSON array: {' or '.join(expected)} was expected, not {shown}")
        self.move(self.at + 1)
        return found


_SPACE = re.compile(r"[ \t\r\n]*")


def _read_array(source: IO[bytes], _options: Options, count: Callable[[int], None]) -> Generator[Record, None, None]:
    text = _Text(source, count)
    decode = json.JSONDecoder(parse_float=ExactFloat).raw_decode
    text.take("[")
    if text.peek() == "]":
        text.take("]")
    else:
        separator = ","
        while separator == ",":
            if text.peek() != "{":
                raise BadRowError(text.line, "it is no JSON object")
            yield _object(text, decode)
            separator = text.take(",", "]")
    if text.peek():
        raise BadRowError(text.line, "something follows the array")


def _object(text: _Text, decode: Callable[[str, int], tuple[Any, int]]) -> Record:
    while True:
        try:
            value, end = decode(text.text, text.at)
        except (json.JSONDecodeError, RecursionError) as error:
            if _may_go_on(error, len(text.text)) and text.more():
                continue
            message = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
            raise BadRowError(text.line, f"it is no JSON: {message}") from None
        line = text.line
        text.move(end)
        return _record(line, value)


def _may_go_on(error: json.JSONDecodeError | RecursionError, length: int) -> bool:
    """Whether an object that cannot be read may only lack the rest of its text."""
    if isinstance(error, RecursionError):
        return False
    return error.msg.startswith("Unterminated") or error.pos >= length - 12
