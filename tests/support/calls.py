"""Counts what a piece of code does, in figures that do not depend on the machine: calls and suspensions."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

__all__ = ["Answer", "counted", "get", "suspensions"]


class Answer:
    """What an application sent: status, headers and body."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")


async def get(app: Any, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
    """Send one request straight into the application, without a server or a task of its own."""
    answer = Answer()
    raw, _, query = path.partition("?")
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.get_running_loop().create_future()  # nobody leaves

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw,
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await app(scope, receive, answer.send)
    return answer


async def suspensions(work: Coroutine[Any, Any, Any]) -> int:
    """How often a coroutine gives the event loop to others before it ends."""
    stepped = _Stepped(work)
    await stepped
    return stepped.times


class _Stepped:
    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self.times = 0

    def __await__(self) -> Iterator[Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                future = self._work.send(value) if error is None else self._work.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self.times += 1
            value = error = None
            try:
                if asyncio.isfuture(future):
                    future._asyncio_future_blocking = True
                value = yield future
            except BaseException as raised:
                error = raised


@contextmanager
def counted() -> Iterator[Counter[CodeType]]:
    """Count the calls of Python functions in this thread, by their code."""
    calls: Counter[CodeType] = Counter()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            calls[frame.f_code] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
