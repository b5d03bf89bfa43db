"""Patterns of text: read once, then written in the language of each database.

``%`` stands for any text, ``_`` for one character, a backslash makes the next character plain, as PostgreSQL's LIKE
has it (https://www.postgresql.org/docs/current/functions-matching.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .errors import InvalidValueError

__all__ = ["LIKE_ESCAPE", "Pattern", "fold"]

LIKE_ESCAPE: Final = "|"
MAX_LENGTH: Final = 1_000
MAX_WILDCARDS: Final = 20

_ANY = 0
_ONE = 1
_SPECIAL_CAPITALS = {"k": "\u212a", "\u00e5": "\u212b", "\u03c9": "\u2126", "\u03b8": "\u03f4", "\u00df": "\u1e9e"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern as plain text and wildcards in turn; ``insensitive`` ignores case, letter by letter."""

    parts: tuple[str | int, ...]
    insensitive: bool = False

    @classmethod
    def of(cls, operator: str, text: str) -> Pattern:
        """Return the pattern that an operator makes of its value. Raises :class:`InvalidValueError`."""
        if len(text) > MAX_LENGTH:
            raise InvalidValueError(f"must have at most {MAX_LENGTH} characters", "string_too_long")
        if operator in ("like", "ilike"):
            return cls(_read(text), operator == "ilike")
        literal = (text,) if text else ()
        before = () if operator == "startswith" else (_ANY,)
        after = () if operator == "endswith" else (_ANY,)
        return cls((*before, *literal, *after), operator == "icontains")

    @property
    def has_prefix(self) -> bool:
        """Whether the pattern begins with plain text, which an index can find."""
        return bool(self.parts) and isinstance(self.parts[0], str)

    def like(self, *, folded: bool = False, escape: str = LIKE_ESCAPE) -> str:
        """Return the pattern for LIKE; ``folded`` in lower case."""
        found: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                text = fold(part) if folded else part
                for special in (escape, "%", "_"):
                    text = text.replace(special, escape + special)
                found.append(text)
            else:
                found.append("%" if part == _ANY else "_")
        return "".join(found)

    def glob(self) -> str:
        """Return the pattern for SQLite's GLOB; without case, each letter becomes a class of its forms."""
        found: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                found.extend(self._glob_character(char) for char in part)
            else:
                found.append("*" if part == _ANY else "?")
        return "".join(found)

    def _glob_character(self, char: str) -> str:
        if char in "*?[":
            return f"[{char}]"
        if self.insensitive:
            forms = _forms(char)
            if len(forms) > 1:
                return f"[{forms}]"
        return char

    def capitals(self) -> tuple[str, str]:
        """Return letters beyond ASCII that have a capital, as (capitals, small letters) of equal length."""
        pairs = {
            form: fold(char)
            for part in self.parts
            if isinstance(part, str)
            for char in part
            if not char.isascii()
            for form in _forms(char)
            if form != fold(char)
        }
        return "".join(pairs), "".join(pairs.values())


def fold(text: str) -> str:
    """Return the text with each letter in lower case, one character for one."""
    return "".join(lower if len(lower := char.lower()) == 1 else char for char in text)


def _forms(char: str) -> str:
    """Return the characters that are the same letter in another case, the given one among them."""
    small = fold(char)
    forms = dict.fromkeys((small, small.upper(), small.title(), _SPECIAL_CAPITALS.get(small, small), char))
    return "".join(form for form in forms if len(form) == 1 and fold(form) == small)


def _read(text: str) -> tuple[str | int, ...]:
    parts: list[str | int] = []
    plain: list[str] = []
    characters = iter(text)
    for char in characters:
        if char == "\\":
            following = next(characters, None)
            if following is None:
                raise InvalidValueError("must not end with a single backslash; write \\\\ for a backslash")
            plain.append(following)
        elif char in "%_":
            if plain:
                parts.append("".join(plain))
                plain.clear()
            if not (char == "%" and parts and parts[-1] == _ANY):
                parts.append(_ANY if char == "%" else _ONE)
        else:
            plain.append(char)
    if plain:
        parts.append("".join(plain))
    if parts.count(_ANY) > MAX_WILDCARDS:
        raise InvalidValueError(f"must have at most {MAX_WILDCARDS} wildcards %")
    return tuple(parts)
