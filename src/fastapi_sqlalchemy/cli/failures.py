"""What is told of an error that ends a command."""

from __future__ import annotations

from sqlalchemy import exc as sa_exc

from ..exceptions import FastAPISQLAlchemyError
from ..web.startup import describe_failure

__all__ = ["CodeFailedError", "line_of"]


class CodeFailedError(Exception):
    """The code given to ``shell -c`` raised; its error is the cause. The command ends with 1."""


def line_of(error: Exception) -> str | None:
    """What to tell of an error that a user can cause, or None."""
    usage = getattr(error, "format_message", None)
    if usage is not None:
        return " ".join(str(usage()).split())
    if isinstance(error, CodeFailedError):
        return str(error)
    if isinstance(error, (FastAPISQLAlchemyError, sa_exc.SQLAlchemyError, OSError)):
        return describe_failure(error)
    return None
