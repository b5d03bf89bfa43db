"""The members of a JSON object as they were written: names are read, values stay the text they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

__all__ = ["joined_members", "split_members"]

MAX_MEMBERS = 5000
"""Members that an object is read with at most; no row has as many."""

_BLANK = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)  # no value is converted, however long it is


def split_members(text: str) -> list[tuple[str, str]] | None:
    """Return the names of an object's members with the text of their values.

    None where ``text`` is no object, or has more members than `MAX_MEMBERS`. Names that come twice and numbers of any
    length stay as they are, for those who read the object to judge.
    """
    try:
        return _members(text)
    except (ValueError, IndexError, RecursionError):
        return None


def joined_members(members: Iterable[tuple[str, str]]) -> str:
    """Return the object of such members."""
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members) + "}"


def _members(text: str) -> list[tuple[str, str]] | None:
    found: list[tuple[str, str]] = []
    place = _after(text, _past_blank(text, 0), "{")
    if text[place] == "}":
        return found if _past_blank(text, place + 1) == len(text) else None
    while len(found) < MAX_MEMBERS:
        name, end = _DECODER.raw_decode(text, place)
        if not isinstance(name, str) or text[place] != '"':
            return None
        start = _after(text, _past_blank(text, end), ":")
        _, end = _DECODER.raw_decode(text, start)
        found.append((name, text[start:end]))
        place = _past_blank(text, end)
        if text[place] == "}":
            return found if _past_blank(text, place + 1) == len(text) else None
        place = _after(text, place, ",")
    return None


def _past_blank(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return place if found is None else found.end()


def _after(text: str, place: int, mark: str) -> int:
    """Return where the text goes on behind a mark and the blanks after it."""
    if text[place] != mark:
        raise ValueError(mark)
    return _past_blank(text, place + 1)
