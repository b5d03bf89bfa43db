"""The admin in a real Chromium: people at a desk and on a phone, forged forms, and rows that would run scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.admin.apps.library import CANARY, NAME, PASSWORD
from tests.admin.hostile import HOSTILE
from tests.support.browser import DESKTOP, PHONE, BrowserThread, Window, open_window
from tests.support.uvicorn import Running, serve_app

pytestmark = pytest.mark.xdist_group("browser")

SAVE = ".card-footer button:has-text('Save'):not([name])"
expect.set_options(timeout=40_000)  # a bound for a machine that has other work


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The library under uvicorn."""
    folder = tmp_path_factory.mktemp("library")
    environment = {
        "LIBRARY_URL": f"sqlite:///{folder / 'library.db'}",
        "LIBRARY_STORE": str(folder / "store.db"),
    }
    with serve_app(
        "tests.admin.apps.library:create_app", folder, environment=environment, arguments=("--factory",)
    ) as it:
        yield it


class Desk(Window):
    """A window of somebody who works with the admin."""

    def log_in(self) -> Page:
        page = self.open("/admin/")
        page.fill("#username", NAME)
        page.fill("#password", PASSWORD)
        self.follow(lambda: page.click("button[type=submit]"))
        expect(page).to_have_url(f"{self.base}/admin/")
        return page


@pytest.fixture(scope="module")
def login(browser: BrowserThread, site: Running) -> Any:
    """The cookies of somebody who has logged in."""

    def steps(chrome: Browser) -> Any:
        with window_of(chrome, site, DESKTOP) as window:
            window.log_in()
            return window.page.context.storage_state()

    return browser.call(steps)


def window_of(browser: Browser, site: Running, size: dict[str, int], login: Any = None) -> AbstractContextManager[Desk]:
    return open_window(Desk, browser, str(site.client.base_url), size, storage=login)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_people_log_in_look_search_filter_and_edit(browser: BrowserThread, site: Running, size: dict[str, int]) -> None:
    title = f"Edited at {size['width']}"

    def steps(chrome: Browser) -> None:
        with window_of(chrome, site, size) as window:
            page = window.log_in()
            window.fits()
            window.follow(lambda: page.click("a.card-link:has-text('Book')"))
            expect(page.locator("tbody tr")).to_have_count(25)
            expect(page.locator("td[data-column=author]").first).to_have_text("Author 0")
            window.fits()
            page.fill("input[type=search]", "book 4")
            window.follow(lambda: page.keyboard.press("Enter"))
            expect(page.locator("tbody tr")).to_have_count(11)
            expect(page.locator("mark").first).to_have_text("Book 4")
            page.click("button:has-text('Filters')")
            page.click("#add-filter-row")
            page.select_option("[data-sa-hook=filter-row-field]", "author")
            page.select_option("[data-sa-hook=filter-row-op]", "icontains")
            page.fill("[data-sa-hook=filter-row-value]", "author 1")
            window.follow(lambda: page.click("[data-sa-hook=filter-form] button[type=submit]"))
            expect(page.locator("#active-filters")).to_contain_text("Author: contains author 1")
            expect(page.locator("td[data-column=title]").first).to_be_visible()
            texts = page.locator("td[data-column=author]").all_inner_texts()
            assert texts
            assert all("Author 1" in text for text in texts)
            page.goto(f"{window.base}/admin/book/list?sort=id__desc")
            expect(page.locator("td[data-column=title]").first).to_have_text("Book 59")
            page.goto(f"{window.base}/admin/book/edit?pk=8")
            window.fits()
            page.fill("#title", title)
            page.fill("#published", "2026-05-06")
            page.click("#author + .select2")
            page.fill(".select2-search__field", "author 11")
            page.click(".select2-results__option:has-text('Author 11')")
            window.follow(lambda: page.click(SAVE))
            expect(page.locator(".alert-description")).to_contain_text(title)
            page.goto(f"{window.base}/admin/book/detail?pk=8")
            for text in (title, "Author 11", "2026-05-06", "2026-01-02 03:04:05.678901"):
                expect(page.locator("#tableContent")).to_contain_text(text)
            window.fits()
            page.goto(f"{window.base}/admin/_changes")
            expect(page.locator("tbody tr").first).to_contain_text(title)
            window.fits()
            assert CANARY not in page.content()

    browser.call(steps)


def test_buttons_and_menus_work_without_inline_scripts(browser: BrowserThread, site: Running) -> None:
    def steps(chrome: Browser) -> None:
        with window_of(chrome, site, DESKTOP) as window:
            window.log_in()
            page = window.open("/admin/book/list")
            window.follow(lambda: page.select_option("select[aria-label='Page size']", label="10"))
            expect(page.locator("tbody tr")).to_have_count(10)
            page.click("button:has-text('Columns')")
            page.uncheck("input[value=notes]")
            window.follow(lambda: page.click("#column-visibility-dropdown button:text-is('Apply')"))
            expect(page.locator("th[data-column=notes]")).to_have_count(0)
            page.check("#select-all-rows")
            page.uncheck("#select-all-rows")
            with page.expect_download() as download:
                page.click("a:has-text('Export'), button:has-text('Export')")
                page.click("[data-sa-action=action-submit]")
            text = Path(download.value.path()).read_text()
            assert text.startswith("id,title,author_id,")
            assert "'=SUM(0)" in text
            page.goto(f"{window.base}/admin/reader/list")
            page.click("tr[data-sa-pk='2'] a[aria-label=Delete]")
            window.follow(lambda: page.click("[data-sa-action=action-submit]"))
            expect(page.locator(".alert-description")).to_contain_text("Alan Turing")
            expect(page.locator("tbody tr")).to_have_count(1)
            page.click("header a[aria-label='Open user menu']")
            window.follow(lambda: page.click("header button:has-text('Logout')"))
            expect(page).to_have_url(f"{window.base}/admin/login")
            page.goto(f"{window.base}/admin/book/list")
            expect(page.locator("#password")).to_be_visible()

    browser.call(steps)


def test_a_form_of_another_page_is_refused(
    browser: BrowserThread, site: Running, login: Any, figure: Callable[..., None]
) -> None:
    forged = """<form method=post action="{base}/admin/book/edit?pk=2"><input name=title value=forged></form>
    <script>document.forms[0].submit()</script>"""

    def steps(chrome: Browser) -> None:
        with window_of(chrome, site, DESKTOP, login) as window:
            page = window.open("/admin/")
            script = """async () => (await fetch("/admin/book/edit?pk=2", {method: "POST",
                body: new URLSearchParams({title: "forged"})})).status"""
            assert page.evaluate(script) == 403
            window.complaints.clear()  # the browser tells of the 403
            page.route(
                "http://evil.test/",
                lambda route: route.fulfill(body=forged.format(base=window.base), content_type="text/html"),
            )
            page.goto("http://evil.test/")
            expect(page.locator("body")).to_contain_text("came from another site")
            window.elsewhere.clear()
            window.complaints.clear()
            page = window.open("/admin/book/detail?pk=2")
            expect(page.locator("#tableContent")).to_contain_text("Book 1")

    browser.call(steps)
    figure("S8", variant="admin: forged forms in Chromium", n=2, failures=0)


def test_rows_that_would_run_a_script_are_shown_as_text(
    browser: BrowserThread, site: Running, login: Any, figure: Callable[..., None]
) -> None:
    def steps(chrome: Browser) -> list[str]:
        with window_of(chrome, site, DESKTOP, login) as window:
            shown: list[str] = []
            for number in (1, 2):
                page = window.open(f"/admin/note/list?page_size=100&page={number}")
                cells = page.locator("td[data-column=text]")
                expect(cells).to_have_count(100)
                shown += [text.strip() for text in cells.all_text_contents()]
                for place in (0, 50):
                    cells.nth(place).locator("span").hover()
                assert window.ran() == []
            for number in range(1, 201, 45):
                page = window.open(f"/admin/note/detail?pk={number}")
                assert HOSTILE[number - 1] in page.locator("#tableContent").text_content()  # type: ignore[operator]
                assert window.ran() == []
                page = window.open(f"/admin/note/edit?pk={number}")
                assert page.input_value("#text") == HOSTILE[number - 1]
                assert window.ran() == []
            return shown

    assert browser.call(steps) == HOSTILE
    figure("S8", variant="admin: XSS strings in Chromium", n=len(HOSTILE), failures=0)


@pytest.mark.parametrize("place", ["query", "label"])
def test_what_is_typed_comes_back_as_text(browser: BrowserThread, site: Running, login: Any, place: str) -> None:
    hostile = '"><img src=x onerror=pwned(1)>'

    def steps(chrome: Browser) -> None:
        with window_of(chrome, site, DESKTOP, login) as window:
            if place == "query":
                page = window.open("/admin/book/list")
                page.fill("input[type=search]", hostile)
                window.follow(lambda: page.keyboard.press("Enter"))
                expect(page.locator("input[type=search]")).to_have_value(hostile)
                page.goto(f"{window.base}/admin/book/list?filter=title__eq=%22{re.sub('[^a-z]', '%3C', hostile)}%22")
                expect(page.locator("#active-filters")).to_contain_text("Title: equals")
            else:
                page = window.open("/admin/author/edit?pk=20")
                page.fill("#name", hostile)
                window.follow(lambda: page.click(SAVE))
                expect(page.locator(".alert-description")).to_contain_text(hostile)
                page.goto(f"{window.base}/admin/book/edit?pk=20")
                expect(page.locator(".select2-selection__rendered")).to_contain_text(hostile)
                page.click("#author + .select2")
                page.fill(".select2-search__field", "onerror")
                expect(page.locator(".select2-results__option")).to_have_text([hostile])
            assert window.ran() == []

    browser.call(steps)
