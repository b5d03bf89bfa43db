"""A circuit breaker: a server that failed is left alone for a while, longer each time."""

from __future__ import annotations

import random
import threading
import time

__all__ = ["CircuitBreaker"]


class CircuitBreaker:
    """Counts failures in a row; after each the server is left out for a time that doubles.

    Parameters: ``first`` and ``longest`` time to leave it out, in seconds.
    """

    def __init__(self, first: float = 1.0, longest: float = 30.0) -> None:
        self._first = first
        self._longest = longest
        self._lock = threading.Lock()
        self._open_until = 0.0
        self._trying = False
        self.failures = 0

    @property
    def is_closed(self) -> bool:
        """Whether the last attempt succeeded."""
        return self.failures == 0

    @property
    def retry_in(self) -> float:
        """Seconds until the next attempt is due."""
        return max(0.0, self._open_until - time.monotonic())

    def allows(self) -> bool:
        """Whether the server may be tried now; where it had failed, this caller makes the one attempt that is due."""
        if self.failures == 0:
            return True
        now = time.monotonic()
        with self._lock:
            if now < self._open_until:
                return False
            self._open_until = now + self._pause()
            self._trying = True
            return True

    def succeeded(self) -> None:
        """The server answered."""
        with self._lock:
            self.failures = 0
            self._trying = False

    def failed(self) -> bool:
        """The server did not answer, or not in time; returns whether that is news.

        What was under way when it failed fails with it, and is no further failure.
        """
        with self._lock:
            if self.failures and not self._trying:
                return False
            self.failures += 1
            self._trying = False
            self._open_until = time.monotonic() + self._pause()
            return True

    def _pause(self) -> float:
        doubled = self._first * 2.0 ** min(self.failures - 1, 16)
        return min(self._longest, doubled) * random.uniform(0.9, 1.1)  # noqa: S311  # no secret
