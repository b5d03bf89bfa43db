"""The line of the user's own code that a statement comes from."""

from __future__ import annotations

import inspect
import os
import site
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

from greenlet import getcurrent

__all__ = ["CodeLine", "caller", "line_of_function"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_DEPTH = 400


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A line of a source file: its path, its number from 1, and the function that it stands in."""

    path: str
    number: int
    function: str

    def __str__(self) -> str:
        return f"{self.shown_path}:{self.number} in {self.function}"

    @property
    def shown_path(self) -> str:
        """The path from the working directory where the file is below it, else from a folder of ``sys.path``."""
        for folder in (os.getcwd(), *sys.path):
            inside = os.path.join(os.path.abspath(folder), "")
            if self.path.startswith(inside):
                return self.path.removeprefix(inside)
        return self.path


def caller() -> CodeLine | None:
    """The innermost line on the stack that is neither of the standard library nor of an installed package.

    An async engine runs its statements in a greenlet, whose stack goes on in the greenlet that it was started from.
    """
    frame: FrameType | None = inspect.currentframe()
    current: Any = getcurrent()
    for _ in range(_DEPTH):
        while frame is None:
            current = current.parent
            if current is None:
                return None
            frame = current.gr_frame
        if _is_of_the_user(frame.f_code.co_filename):
            return CodeLine(os.path.abspath(frame.f_code.co_filename), frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None


def line_of_function(function: Any) -> CodeLine | None:
    """Where a function of the user's is defined; None for one of a package."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None or not _is_of_the_user(code.co_filename):
        return None
    return CodeLine(os.path.abspath(code.co_filename), code.co_firstlineno, code.co_name)


@lru_cache(maxsize=4096)
def _is_of_the_user(filename: str) -> bool:
    if filename.startswith("<"):
        return False
    path = os.path.abspath(filename)
    if path.startswith(_PACKAGE):
        return False
    return not path.startswith(_installed())


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.update(site.getsitepackages())
    folders.add(os.path.dirname(os.path.abspath(os.__file__)))
    folders.add(site.getusersitepackages())
    return tuple(os.path.join(os.path.abspath(folder), "") for folder in folders)
