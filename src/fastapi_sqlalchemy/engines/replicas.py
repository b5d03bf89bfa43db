"""Reads on replicas: which of them is near, sound and far enough in the stream of changes, and when none is."""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from ..config import DatabaseConfig, Replica, masked
from ..exceptions import PoolTimeoutError
from .breaker import CircuitBreaker
from .liveness import ran_out_of_time, was_lost
from .positions import UNKNOWN, Positions, Watermark, positions_of
from .probe import ask
from .reads import end_transaction_mode
from .watchdog import Watchdog

__all__ = ["ATTEMPT", "CHECK_EVERY", "ReadRoute", "ReplicaStatus", "Replicas", "position_after_commit"]

logger = logging.getLogger("fastapi_sqlalchemy")

ATTEMPT = 0.5
"""Seconds that a replica has to accept a connection, and to answer a check."""

CHECK_EVERY = 0.25
"""Seconds for which the last check of a replica holds; each check is one short query."""

LOOK_AGAIN = 0.01
"""Seconds after which a replica that was not far enough is asked once more."""

LOOKS = 3
"""How often one check asks a replica that has not replayed all that it has received."""

PATIENCE = 0.05
"""Seconds that a check may take before other reads stop trusting the one before."""


class Source(Protocol):
    """What builds the engines of a replica."""

    def sync(self) -> Engine: ...

    def asynchronous(self) -> AsyncEngine: ...

    def dispose(self) -> None: ...

    async def adispose(self) -> None: ...


@dataclass(frozen=True)
class ReplicaStatus:
    """The figures of one replica, as this process knows them.

    ``state``: "ok", "lagging" (beyond its limit), "down" (failed, and left out for ``retry_in`` seconds) or "unknown"
    (never asked). ``lag_seconds`` and ``lag_bytes`` are those of the last check, ``reads`` the transactions that went
    there, ``failures`` the attempts that failed since the process started.
    """

    url: str
    weight: float
    state: str
    position: str | None
    lag_seconds: float | None
    lag_bytes: int | None
    reads: int
    failures: int
    retry_in: float


class Server:
    """One replica: its engines, what the last check said of it, and whether it may be asked at all."""

    def __init__(self, replica: Replica, source: Source, positions: Positions | None) -> None:
        self.replica = replica
        self.source = source
        self.breaker = CircuitBreaker()
        self._watchdog = Watchdog(replica.parsed, self._is_silent)
        self._watched: weakref.WeakSet[Engine] = weakref.WeakSet()
        self.position: str | None = None
        self.lag_seconds: float | None = None
        self.lag_bytes: int | None = None
        self.reads = 0
        self.failures = 0
        self._positions = positions
        self._lock = threading.Lock()
        self._checked_at = 0.0
        self._current_at = 0.0
        self._asking_since: float | None = None

    @property
    def url(self) -> str:
        """The URL without its password."""
        return masked(self.replica.parsed)

    @property
    def is_lagging(self) -> bool:
        """Whether it was beyond its lag limit at the last check."""
        seconds, size = self.replica.max_lag, self.replica.max_lag_bytes
        return (seconds is not None and self.lag_seconds is not None and self.lag_seconds > seconds) or (
            size is not None and self.lag_bytes is not None and self.lag_bytes > size
        )

    def engine(self, *, asynchronous: bool) -> Engine:
        """The engine for a session of that kind."""
        engine = self.source.asynchronous().sync_engine if asynchronous else self.source.sync()
        if engine not in self._watched:
            with self._lock:
                if engine not in self._watched:
                    self._watched.add(engine)
                    self._watchdog.watch(engine)
        return engine

    def serves(self, watermark: Watermark, *, asynchronous: bool) -> bool:
        """Whether it shows all that the reader must see, now; asks it where the last check does not tell.

        Raises what the attempt raised when the server cannot be asked.
        """
        now = time.monotonic()
        with self._lock:
            age = now - self._checked_at
            good = self._is_good_for(watermark)
            if age < (CHECK_EVERY if good else LOOK_AGAIN):
                return good
            if self._asking_since is not None:
                late = now - self._asking_since > PATIENCE
                return good and self.breaker.is_closed and not late and self._checked_at > 0
            self._asking_since = now
        try:
            self._check(self.engine(asynchronous=asynchronous))
        finally:
            self._asking_since = None
        return self._is_good_for(watermark)

    def failed(self, error: BaseException) -> None:
        """Leave it out for a while."""
        first = self.breaker.is_closed
        if not self.breaker.failed():
            return
        self.failures += 1
        self._checked_at = 0.0
        if first:
            logger.warning("The replica %s does not serve (%s); it is left out.", self.url, type(error).__name__)

    def _is_silent(self) -> None:
        self.failed(TimeoutError("The server greets no new connection."))

    def status(self) -> ReplicaStatus:
        """Its figures."""
        state = "ok"
        if not self.breaker.is_closed:
            state = "down"
        elif self.position is None:
            state = "unknown"
        elif self.is_lagging:
            state = "lagging"
        return ReplicaStatus(
            url=self.url,
            weight=self.replica.weight,
            state=state,
            position=self.position,
            lag_seconds=self.lag_seconds,
            lag_bytes=self.lag_bytes,
            reads=self.reads,
            failures=self.failures,
            retry_in=0.0 if self.breaker.is_closed else self.breaker.retry_in,
        )

    def _is_good_for(self, watermark: Watermark) -> bool:
        return not self.is_lagging and watermark.is_covered_by(self.position)

    def _check(self, engine: Engine) -> None:
        if self._positions is None:
            self._checked_at = time.monotonic()
            return
        connection = engine.raw_connection()
        try:
            position, seconds, size = ask(connection.dbapi_connection, self._positions.state, ATTEMPT)
            for _ in range(LOOKS - 1):
                if seconds and size:  # it has just received what it is about to replay, or it is late
                    position, seconds, size = ask(connection.dbapi_connection, self._positions.state, ATTEMPT)
        except BaseException:
            connection.invalidate()
            raise
        finally:
            connection.close()
        now = time.monotonic()
        if seconds == 0:
            self._current_at = now
        elif seconds is not None and self._current_at:
            # The age of the last transaction is no lag while there was none; it was level when it was last seen so.
            seconds = min(seconds, now - self._current_at)
        with self._lock:
            self.position = None if position is None else str(position)
            self.lag_seconds = None if seconds is None else max(0.0, float(seconds))
            self.lag_bytes = None if size is None else int(size)
            self._checked_at = now
        if not self.breaker.is_closed:
            self.breaker.succeeded()
            logger.info("The replica %s serves again.", self.url)


class Replicas:
    """The replicas of one database; ``db.replicas.status()`` tells how they are.

    A read goes to one of those that are sound, within their lag limit and far enough for the reader, chosen by weight;
    to the primary when there is none. A replica that fails costs one short attempt, then is left out for a second, for
    two, for four, at most for thirty; after that one read tries it again.
    """

    def __init__(self, config: DatabaseConfig, make_source: Callable[[DatabaseConfig], Any]) -> None:
        url = config.url
        self.positions = None if url is None else positions_of(url.get_backend_name())
        self.servers = [
            Server(replica, make_source(_config_for(replica, config)), self.positions) for replica in config.replicas
        ]
        self.watermark = Watermark(self.positions)
        """What was written outside of any request, which all of the process's reads outside of requests see."""
        self.fallbacks = 0
        """The reads that went to the primary since no replica would do."""

    def __len__(self) -> int:
        return len(self.servers)

    def __repr__(self) -> str:
        return f"<Replicas {', '.join(server.url for server in self.servers)}>"

    def status(self) -> list[ReplicaStatus]:
        """The figures of every replica, in the order given."""
        return [server.status() for server in self.servers]

    def choose(self, watermark: Watermark, *, asynchronous: bool) -> Server | None:
        """A replica that will do, or None for the primary; at most one attempt fails."""
        if not watermark.is_pinned:
            for server in self._by_weight():
                if not server.breaker.allows():
                    continue
                try:
                    if server.serves(watermark, asynchronous=asynchronous):
                        server.reads += 1
                        return server
                except Exception as error:
                    server.failed(error)
                    break
        self.fallbacks += 1
        return None

    def _by_weight(self) -> Iterator[Server]:
        """The replicas in random order, the heavier ones more often in front."""
        if len(self.servers) == 1:
            return iter(self.servers)
        drawn = {id(server): random.random() ** (1 / server.replica.weight) for server in self.servers}  # noqa: S311
        return iter(sorted(self.servers, key=lambda server: drawn[id(server)], reverse=True))


class ReadRoute:
    """Where one session reads: each of its transactions on one server, a replica if there is one that will do."""

    def __init__(self, replicas: Replicas, watermark: Watermark, primary: Engine) -> None:
        self._replicas = replicas
        self._watermark = watermark
        self._asynchronous = primary.dialect.is_async
        self._primary = primary
        self._server: Server | None = None

    def begin(self) -> Engine:
        """The engine for the transaction that begins."""
        self._server = self._replicas.choose(self._watermark, asynchronous=self._asynchronous)
        return self._primary if self._server is None else self._server.engine(asynchronous=self._asynchronous)

    def leaves(self, error: BaseException, seconds: float) -> Engine | None:
        """The primary's engine when an error is the replica's own, and the read may be done there; else None.

        ``seconds`` is what the statement has taken: one that ran into its deadline is not begun again.
        """
        server = self._server
        if server is None:
            return None
        if _is_recovery_conflict(error) or isinstance(error, (PoolTimeoutError, sa_exc.TimeoutError)):
            pass  # the server is well, but not for this read
        elif _is_failure(error):
            server.failed(error)
            if seconds > 2 * ATTEMPT and ran_out_of_time(error):
                return None
        else:
            return None
        self._server = None
        self._replicas.fallbacks += 1
        return self._primary


def _is_failure(error: BaseException) -> bool:
    """Whether the server could not be reached, went away or did not answer."""
    if isinstance(error, sa_exc.DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        # libpq names no SQLSTATE when it has no server; class 08 is the connection, 53 resources, 57P the server's end
        unconnected = isinstance(error, sa_exc.OperationalError) and error.statement is None
        return was_lost(error) or ran_out_of_time(error) or unconnected or state.startswith(("08", "53", "57P"))
    return isinstance(error, (OSError, TimeoutError, sa_exc.DisconnectionError)) or hasattr(error, "sqlstate")


def _is_recovery_conflict(error: BaseException) -> bool:
    """Whether the replica ended the read in favour of its replay (PostgreSQL manual, "Handling Query Conflicts")."""
    return isinstance(error, sa_exc.DBAPIError) and getattr(error.orig, "sqlstate", None) in ("40001", "40P01")


def _config_for(replica: Replica, config: DatabaseConfig) -> DatabaseConfig:
    url = replica.parsed
    assert config.url is not None
    return dataclasses.replace(
        config,
        url=_with_driver_of(config.url, url),
        async_url=None if config.async_url is None else _with_driver_of(config.async_url, url),
        custom_engine=None,
        async_custom_engine=None,
        replicas=(),
        reads_only=True,
        connect_timeout=min(ATTEMPT, config.connect_timeout or ATTEMPT),
        pool_timeout=min(ATTEMPT, config.pool_timeout or ATTEMPT),
    )


def _with_driver_of(primary: URL, replica: URL) -> URL:
    return replica if "+" in replica.drivername else replica.set(drivername=primary.drivername)


def position_after_commit(connection: Connection, positions: Positions | None) -> str:
    """The position of what a connection has just committed; `UNKNOWN` when it cannot be found out."""
    if positions is None:
        return UNKNOWN
    try:
        dbapi_connection: Any = connection.connection.dbapi_connection
        end_transaction_mode(connection.info, dbapi_connection)
        return str(ask(dbapi_connection, positions.after_commit, ATTEMPT)[0])
    except Exception as error:
        logger.warning("The position of a commit is not known (%s); it is read at the primary.", type(error).__name__)
        return UNKNOWN
