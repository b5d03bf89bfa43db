"""One bearer token for a whole application, compared in constant time; guesses are limited."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict, deque
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ..web.problems import Problem, ProblemError

__all__ = ["BearerToken"]

GUESSES = 10
"""Wrong tokens that one address may send in ``WINDOW`` seconds."""

WINDOW = 60.0
_MAX_ADDRESSES = 10_000

_bearer = HTTPBearer(auto_error=False, description="The token that the server was started with.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


class BearerToken:
    """A dependency that lets a request pass only with ``Authorization: Bearer <token>`` (RFC 6750).

    Without it the answer is a 401, after too many wrong ones from an address a 429 until a minute has passed.
    """

    def __init__(self, token: str) -> None:
        self._digest = _digest(token)
        self._guesses: OrderedDict[str, deque[float]] = OrderedDict()

    async def __call__(self, request: Request, credentials: Credentials) -> None:
        """Raise a 401 or 429 problem, or return."""
        address = request.client.host if request.client else ""
        wait = self._wait(address)
        if wait > 0:
            problem = Problem(status=429, code="too_many_requests", detail="Too many wrong tokens. Try again later.")
            problem.headers["Retry-After"] = str(int(wait) + 1)
            raise ProblemError(problem)
        if credentials is None:
            raise _refused("This needs the bearer token of the server.", 'Bearer realm="data"')
        if not self.accepts(credentials.credentials):
            self._note(address)
            raise _refused("The bearer token is not the right one.", 'Bearer realm="data", error="invalid_token"')

    def accepts(self, token: str) -> bool:
        """Whether this is the token; takes the same time for every other one."""
        return secrets.compare_digest(_digest(token), self._digest)

    def _wait(self, address: str) -> float:
        times = self._guesses.get(address)
        if times is None or len(times) < GUESSES:
            return 0
        return times[0] + WINDOW - time.monotonic()

    def _note(self, address: str) -> None:
        times = self._guesses.setdefault(address, deque(maxlen=GUESSES))
        self._guesses.move_to_end(address)
        times.append(time.monotonic())
        while len(self._guesses) > _MAX_ADDRESSES:
            self._guesses.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _refused(detail: str, challenge: str) -> ProblemError:
    problem = Problem(status=401, code="unauthorized", detail=detail)
    problem.headers["WWW-Authenticate"] = challenge
    return ProblemError(problem)
