"""A real Chromium, driven by Playwright in a thread of its own: its event loop must not be that of the tests."""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from playwright.sync_api import Browser, sync_playwright

__all__ = ["ARGUMENTS", "BrowserThread", "chromium"]

T = TypeVar("T")

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def chromium() -> str | None:
    """The path of Debian's Chromium (or the one that CHROMIUM names), or None."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


class BrowserThread:
    """One browser; ``call(steps)`` runs ``steps(browser)`` where it lives and returns what they do."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._work: queue.Queue[tuple[Callable[[Browser], Any], Future[Any]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, name="browser")
        self._started: Future[str] = Future()
        self._thread.start()
        self.version = self._started.result(120)

    def call(self, steps: Callable[[Browser], T]) -> T:
        """Run some steps and wait for them."""
        done: Future[T] = Future()
        self._work.put((steps, done))
        return done.result(300)

    def close(self) -> None:
        """End the browser."""
        self._work.put(None)
        self._thread.join()

    def _serve(self) -> None:
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=self._path, args=ARGUMENTS)
                self._started.set_result(browser.version)
                while (item := self._work.get()) is not None:
                    steps, done = item
                    try:
                        done.set_result(steps(browser))
                    except BaseException as error:  # it is the test's
                        done.set_exception(error)
                browser.close()
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            raise
