"""Whether anybody but this package follows what an engine executes: event listeners, echo, execution options.

Work that goes past SQLAlchemy's Connection is seen by none of them, so it is done only where nobody looks.
"""

from __future__ import annotations

import weakref
from typing import Any

from sqlalchemy import Engine

__all__ = ["is_observed", "note_own_listeners"]

_CONNECTION_EVENTS = (
    "after_cursor_execute",
    "after_execute",
    "before_cursor_execute",
    "before_execute",
    "begin",
    "commit",
    "engine_connect",
    "rollback",
    "set_connection_execution_options",
)
_DIALECT_EVENTS = ("do_execute", "do_setinputsizes", "handle_error")
_POOL_EVENTS = ("checkin", "checkout", "invalidate", "reset", "soft_invalidate")

_own: weakref.WeakKeyDictionary[Engine, int] = weakref.WeakKeyDictionary()


def note_own_listeners(engine: Engine) -> None:
    """Remember the listeners that the package itself has put on an engine."""
    _own[engine] = _count(engine)


def is_observed(engine: Engine) -> bool:
    """Whether an engine has listeners beside those noted, logs its statements, or has execution options.

    An engine that was never noted counts as observed: somebody else made it.
    """
    return (
        _own.get(engine) != _count(engine)
        or bool(engine.get_execution_options())
        or engine._should_log_info()  # the flag and the logger's level together
    )


def _count(engine: Engine) -> int:
    connections: Any = engine.dispatch
    dialects: Any = engine.dialect.dispatch
    pools: Any = engine.pool.dispatch
    found = 0
    for name in _CONNECTION_EVENTS:
        found += len(getattr(connections, name))
    for name in _DIALECT_EVENTS:
        found += len(getattr(dialects, name))
    for name in _POOL_EVENTS:
        found += len(getattr(pools, name))
    return found
