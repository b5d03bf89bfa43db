"""A real Chromium, driven by Playwright in a thread of its own: its event loop must not be that of the tests."""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.databases import note_part

__all__ = ["ARGUMENTS", "DESKTOP", "PHONE", "BrowserThread", "Window", "chromium", "open_browser", "open_window"]

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
WATCH = "window.ran = []; window.pwned = function (number) { window.ran.push(String(number)); };"

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


@dataclass
class Window:
    """A window of the browser, and what went wrong in it."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list[str])
    elsewhere: list[str] = field(default_factory=list[str])

    def open(self, path: str) -> Page:
        """Go to a page of the site."""
        self.page.goto(f"{self.base}{path}")
        return self.page

    def follow(self, step: Callable[[], object]) -> None:
        """Do what leads to another page, and wait until its scripts have run."""
        with self.page.expect_navigation():
            step()

    def fits(self) -> None:
        """Nothing of the page is past the edge of the window."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")

    def ran(self) -> list[str]:
        """The numbers of the hostile strings that ran as a script."""
        found: list[str] = self.page.evaluate("window.ran")
        return found


W = TypeVar("W", bound=Window)


@contextmanager
def open_window(
    kind: type[W], browser: Browser, base_url: str, size: dict[str, int], *, storage: Any = None
) -> Iterator[W]:
    """A window of this size; at the end nothing was complained of, and nothing was asked of another host."""
    base = base_url.rstrip("/")
    small = size is PHONE
    context = browser.new_context(
        viewport=size,  # type: ignore[arg-type]
        has_touch=small,
        is_mobile=small,
        storage_state=storage,
        reduced_motion="reduce",  # sixty pictures a second of every dialogue that opens are nothing to test
    )
    context.set_default_timeout(40_000)
    context.add_init_script(WATCH)
    window = kind(context.new_page(), base)

    def note(request: Any) -> None:
        if not request.url.startswith((f"{base}/", "data:", "blob:")):
            window.elsewhere.append(request.url)

    window.page.on(
        "console", lambda message: window.complaints.append(message.text) if message.type == "error" else None
    )
    window.page.on("pageerror", lambda error: window.complaints.append(str(error)))
    window.page.on("dialog", lambda dialog: (window.complaints.append(dialog.message), dialog.dismiss()))
    window.page.on("request", note)
    yield window
    assert window.complaints == []
    assert window.elsewhere == []
    context.close()


@contextmanager
def open_browser() -> Iterator[BrowserThread]:
    """A Chromium; without one the tests are skipped."""
    path = chromium()
    if path is None:
        pytest.skip("NO CHROMIUM TAKES PART: apt-get install chromium, or name one with CHROMIUM")
    thread = BrowserThread(path)
    note_part("chromium", f"Chromium {thread.version}")
    yield thread
    thread.close()
