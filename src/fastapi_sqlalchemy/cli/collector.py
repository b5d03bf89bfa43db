"""The garbage collector of Python while ``serve`` builds what stays."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["keep", "paused"]


@contextmanager
def paused() -> Generator[None]:
    """Let the collector rest within the block: it would look through all that is built, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def keep() -> None:
    """Take what there is now out of what the collector looks through; for a process that keeps it to its end."""
    gc.collect()
    gc.freeze()
