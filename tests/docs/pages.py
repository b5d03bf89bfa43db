"""Reads a page of the documentation as its reader types it: files to write, and commands with what they print.

The grammar of a page that is typed from top to bottom:

    ```LANGUAGE title="PATH"    the file PATH holds the lines of the block
    ```console                  a line that starts with "$ " is typed into bash; the lines below it are what it prints
    Stop the server ...         a line of the text that begins so is done: the server that runs is stopped

In what a command prints, a line "..." stands for any lines. Figures that differ from run to run (a time, a duration,
the id of a revision or a process) are compared by their kind alone; `FIGURES` lists the kinds. A command is expected
to succeed, unless "$ echo $?" follows it. Any other block is an error: nobody could type it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

__all__ = ["Command", "File", "Step", "Stop", "prints_as_shown", "steps"]

FIGURES = (
    ("<moment>", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?"),
    ("<file date>", r"\d{4}_\d\d_\d\d_\d{4}"),
    ("<duration>", r"\b\d+(\.\d+)? ?m?s\b"),
    ("<revision>", r"(?<![0-9a-f])[0-9a-f]{12}(?![0-9a-f])"),
    ("<process>", r"process \[\d+\]"),
    ("<port>", r"127\.0\.0\.1:\d+ -"),
)


@dataclass(frozen=True)
class File:
    """A block that is the text of a file."""

    page: str
    line: int
    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """A line that is typed, and the lines that the page shows below it; ``may_fail`` where its exit code is asked."""

    page: str
    line: int
    text: str
    shown: tuple[str, ...]
    may_fail: bool = False


@dataclass(frozen=True)
class Stop:
    """The text asks for the server to be stopped."""

    page: str
    line: int


Step: TypeAlias = File | Command | Stop


def steps(page: Path) -> Iterator[Step]:
    """The steps of a page in their order; raises ValueError for a block that is none."""
    lines = page.read_text().splitlines()
    at = 0
    while at < len(lines):
        opened = re.fullmatch(r"```(\w*)(?: (.*))?", lines[at])
        if opened is None:
            if lines[at].startswith("Stop the server"):
                yield Stop(page.name, at + 1)
            at += 1
            continue
        end = lines.index("```", at + 1)
        block, first = lines[at + 1 : end], at + 2
        title = re.fullmatch(r'title="(\S+)"', opened[2] or "")
        if title is not None:
            yield File(page.name, first, title[1], "".join(f"{line}\n" for line in block))
        elif opened[1] == "console" and opened[2] is None and block and block[0].startswith("$ "):
            yield from _commands(page.name, first, block)
        else:
            raise ValueError(f"{page.name}:{first - 1} is neither a file with a title nor a console block")
        at = end + 1


def _commands(page: str, first: int, block: list[str]) -> Iterator[Command]:
    starts = [at for at, line in enumerate(block) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(block)], strict=True):
        may_fail = end < len(block) and block[end] == "$ echo $?"
        yield Command(page, first + start, block[start][2:], tuple(block[start + 1 : end]), may_fail)


def prints_as_shown(shown: tuple[str, ...], printed: str) -> bool:
    """Whether these lines are what the page shows."""
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(_kinds(line)) + r"\n" for line in shown)
    lines = [_kinds(line.rstrip()) for line in printed.splitlines()]
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def _kinds(line: str) -> str:
    for kind, pattern in FIGURES:
        line = re.sub(pattern, kind, line)
    return line
