"""Reading a parameter character by character: names, quoted texts and the signs between them."""

from __future__ import annotations

from typing import Final

from ..query.errors import shown

__all__ = ["MalformedError", "Scanner"]

_STOPS: Final = frozenset(',.:()!"')


class MalformedError(ValueError):
    """A text that does not follow the grammar; the message completes "the parameter cannot be read:"."""


class Scanner:
    """A place in a text. What is expected and not there raises :class:`MalformedError`, which tells the place."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    @property
    def is_done(self) -> bool:
        """Whether all was read."""
        return self.position >= len(self.text)

    @property
    def char(self) -> str:
        """The next character, empty at the end."""
        return self.text[self.position : self.position + 1]

    def sees(self, token: str) -> bool:
        """Whether the token comes next."""
        return self.text.startswith(token, self.position)

    def accept(self, token: str) -> bool:
        """Go past the token where it comes next."""
        if not self.sees(token):
            return False
        self.position += len(token)
        return True

    def expect(self, token: str) -> None:
        """Go past the token, which has to come next."""
        if not self.accept(token):
            raise self.malformed(f"{token} is expected")

    def malformed(self, msg: str) -> MalformedError:
        """Return the error of this place."""
        place = f"at character {self.position + 1}" if not self.is_done else "at its end"
        found = "" if self.is_done else f", not {shown(self.text[self.position : self.position + 20])}"
        return MalformedError(f"{place} {msg}{found}")

    def until(self, stops: frozenset[str]) -> str:
        """Return what stands before the next of these characters."""
        start = self.position
        while self.position < len(self.text) and self.text[self.position] not in stops:
            self.position += 1
        return self.text[start : self.position]

    def name(self) -> str:
        """Return a name: bare up to the next sign, or in double quotes."""
        if self.char == '"':
            return self.quoted()
        start = self.position
        while self.position < len(self.text) and self.char not in _STOPS and not self.sees("->"):
            self.position += 1
        found = self.text[start : self.position].strip()
        if not found:
            self.position = start
            raise self.malformed("a name is expected")
        return found

    def quoted(self) -> str:
        """Return a text in double quotes; a backslash makes the next character plain."""
        self.expect('"')
        found: list[str] = []
        while not self.is_done:
            char = self.char
            self.position += 1
            if char == '"':
                return "".join(found)
            if char == "\\" and not self.is_done:
                char = self.char
                self.position += 1
            found.append(char)
        raise self.malformed("a quoted text has no end")
