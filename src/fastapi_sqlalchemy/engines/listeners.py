"""Whether anybody but this package follows what an engine executes: event listeners, echo, execution options.

Work that goes past SQLAlchemy's Connection is seen by none of them, so it is done only where nobody looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Engine

__all__ = ["Listeners", "is_observed", "note_own_listeners", "note_shared_listeners"]

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
_KEY = "_fastapi_sqlalchemy_listeners"
_shared = 0
_resting = 0


class Listeners:
    """The listeners to some events of some targets, those of their classes included.

    The collections are SQLAlchemy's own, which grow and shrink in place: to count them is all that a look costs.
    """

    def __init__(self, targets: Iterable[tuple[Any, Iterable[str]]]) -> None:
        self._collections = [found for target, names in targets for found in _collections(target.dispatch, names)]
        self.noted = self.count()

    def count(self) -> int:
        """Return how many there are now."""
        return sum(map(len, self._collections))

    @property
    def have_changed(self) -> bool:
        """Whether there are more or fewer than when this object was made."""
        return sum(map(len, self._collections)) != self.noted


def note_shared_listeners(number: int, *, resting: bool) -> None:
    """Say how many listeners this package has put on all engines for good; ``resting`` ones return at once."""
    global _shared, _resting
    _shared, _resting = number, number if resting else 0


def note_own_listeners(engine: Engine) -> None:
    """Remember the listeners that the package itself has put on an engine."""
    _remember(engine)


def is_observed(engine: Engine) -> bool:
    """Whether an engine has listeners beside those noted, logs its statements, or has execution options.

    An engine that was never noted counts as observed: somebody else made it.
    """
    known: tuple[Any, Listeners] | None = vars(engine).get(_KEY)
    if known is None:
        return True
    pool, listeners = known
    if pool is not engine.pool:  # disposed: the new pool has collections of its own
        before = listeners.noted
        listeners = _remember(engine)
        listeners.noted = before
    options, logs = engine.get_execution_options(), engine._should_log_info  # pyright: ignore[reportPrivateUsage]
    changed = listeners.count() - _resting != listeners.noted
    return changed or bool(options) or logs()  # logs: the flag and the logger's level together


def _remember(engine: Engine) -> Listeners:
    listeners = Listeners(
        ((engine, _CONNECTION_EVENTS), (engine.dialect, _DIALECT_EVENTS), (engine.pool, _POOL_EVENTS))
    )
    listeners.noted -= _shared
    vars(engine)[_KEY] = (engine.pool, listeners)
    return listeners


def _collections(dispatch: Any, names: Iterable[str]) -> Iterator[Any]:
    for name in names:
        collection = getattr(dispatch, name).for_modify(dispatch)
        yield collection.listeners
        yield collection.parent_listeners
