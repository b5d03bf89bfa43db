"""The pool against the threads that serve requests, and all pools against what the server takes."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import anyio.to_thread
from sqlalchemy.pool import Pool, QueuePool

from .finding import Finding, Patient, error, ok, warning

__all__ = ["check_pool", "compare_connections"]


def check_pool(patient: Patient) -> Iterator[Finding]:
    """Compare the pool with the threads of a process, and look whether a wait for it has an end."""
    if not patient.source.has_sync_driver():
        if patient.source.has_async_driver():
            yield ok("pool", "Only async sessions can be opened: no driver for the others is installed.")
        return
    most = _capacity(patient.db.engine.pool)
    threads = anyio.run(_threads)
    timeout = patient.source.config.pool_timeout
    if most is None:
        yield warning(
            "pool",
            "The pool opens as many connections as are asked for.",
            "Leave poolclass out, and max_overflow at 0 or more.",
        )
    elif most > threads and patient.source.dialect_name != "sqlite":
        yield warning(
            "pool",
            f"The pool has {most} connections; def routes have {threads} threads and use no more of them at once.",
            f"Unless your routes are async def, make pool_size + max_overflow at most {threads} in engine_args.",
        )
    elif timeout is None:
        yield warning(
            "pool",
            f"{threads} threads share {most} connections, and wait for one without end.",
            "Leave pool_timeout at its 5 seconds: a request that waits longer is answered with 503.",
        )
    else:
        yield ok("pool", f"{threads} threads share {most} connections; who waits longer than {timeout:g} s gets a 503.")


def compare_connections(patient: Patient, pool: Pool, usable: int) -> Iterator[Finding]:
    """Compare what such pools of all workers may open with ``usable``, the connections that the server has for them."""
    most = _capacity(pool)
    if patient.source.config.pooler is not None or most is None:
        return
    workers, kinds = patient.workers, patient.source.has_sync_driver() + patient.source.has_async_driver()
    one, both = workers * most, workers * most * kinds
    told = f"{workers} worker{'s' if workers > 1 else ''} with up to {most} connections: {one}"
    told += f", or {both} where sync and async sessions are mixed; " if kinds == 2 else "; "
    told += f"the server has {usable}."
    if one > usable:
        share = max(1, usable // workers)
        sizes = f'"pool_size": {min(5, share)}, "max_overflow": {max(0, share - 5)}'
        yield error("connections", told, f"Set engine_args={{{sizes}}}, or put a pooler such as PgBouncer before it.")
    elif both > usable:
        share = max(1, usable // (workers * kinds))
        yield warning(
            "connections", told, f"Open one kind of session, or let pool_size + max_overflow be at most {share}."
        )
    else:
        yield ok("connections", told)


def _capacity(pool: Pool) -> int | None:
    """How many connections a pool opens at most; None for no limit."""
    if not isinstance(pool, QueuePool):
        return None
    overflow: int = pool._max_overflow  # pyright: ignore[reportPrivateUsage]  # no public name
    return None if overflow < 0 else pool.size() + overflow


async def _threads() -> int:
    return int(anyio.to_thread.current_default_thread_limiter().total_tokens)
