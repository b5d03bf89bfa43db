"""A TCP proxy before a database server: it passes everything on, until it is told to delay, cut or swallow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self

__all__ = ["Proxy"]

_CHUNK = 65_536


class Proxy:
    """Listens on a port of its own on loopback, in a thread of its own.

    ``delay`` is added to each chunk that the server sends, in seconds. ``cut_reply_to`` arms it: once a client sends
    these bytes they are passed on, and both connections are closed when the server answers. ``swallow`` keeps to itself
    what servers send.
    """

    def __init__(self, host: str, port: int) -> None:
        self.delay = 0.0
        self.swallow = False
        self.cuts = 0
        self._target = (host, port)
        self._cut_after: bytes | None = None
        self._cuts_left = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_error: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut_reply_to(self, request: bytes, times: int = 1) -> None:
        """Cut the next connections that send ``request``, each when its answer comes."""
        self._cut_after, self._cuts_left = request, times

    def cut_all(self) -> None:
        """Close every connection now."""
        self._call(self._close_all())

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _stop(self) -> None:
        self._server.close()
        await self._close_all()

    async def _close_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server_writer = None
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            connection = _Passage(self, reader, writer, server_reader, server_writer)
            await connection.run()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, server_writer):
                if each is not None:
                    each.transport.abort()

    def claims(self, data: bytes) -> bool:
        """Whether these bytes are what it waits for; true as often as it was told to cut."""
        if not self._cuts_left or self._cut_after is None or self._cut_after not in data:
            return False
        self._cuts_left -= 1
        self.cuts += 1
        return True


class _Passage:
    def __init__(
        self,
        proxy: Proxy,
        client_reader: asyncio.StreamReader,
        client_writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client = (client_reader, client_writer)
        self._server = (server_reader, server_writer)
        self._cut = False

    async def run(self) -> None:
        ways = [asyncio.ensure_future(way) for way in (self._up(), self._down())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _up(self) -> None:
        while data := await self._client[0].read(_CHUNK):
            self._cut = self._proxy.claims(data) or self._cut
            self._server[1].write(data)
            await self._server[1].drain()

    async def _down(self) -> None:
        while data := await self._server[0].read(_CHUNK):
            if self._cut:
                return
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)
            if not self._proxy.swallow:
                self._client[1].write(data)
                await self._client[1].drain()
