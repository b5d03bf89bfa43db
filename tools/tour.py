"""A tour of the library in Chromium, which leaves the pictures of the documentation in docs/images."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fastapi import FastAPI
from playwright.sync_api import Browser, Page

from fastapi_sqlalchemy.cli.application import ServeSettings, create_app
from tests.support.browser import BrowserThread, chromium
from tests.support.uvicorn import serve_app

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
NAME, PASSWORD = "ada", "the analytical engine"
DESKTOP = {"width": 1120, "height": 700}
PHONE = {"width": 390, "height": 760}


def main() -> None:
    """Take the pictures."""
    path = chromium()
    if path is None:
        sys.exit("There is no Chromium: apt-get install chromium, or name one with CHROMIUM.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {
            "DATABASE_URL": f"sqlite:///{folder / 'library.db'}",
            "FASTAPI_SQLALCHEMY_ADMIN_STORE": str(folder / "store.db"),
            "ADMIN_PASSWORD": PASSWORD,
            "DEBUG": "1",
        }
        command = ["admin", "create-user", NAME, "--password-env", "ADMIN_PASSWORD"]
        subprocess.run(
            [sys.executable, "-c", "from fastapi_sqlalchemy.cli import main; main()", *command],
            env={**os.environ, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        browser = BrowserThread(path)
        try:
            with serve_app("examples.library.main:app", folder, environment=environment) as site:
                base = str(site.client.base_url).rstrip("/")
                browser.call(lambda chrome: tour(chrome, base))
            with serve_app("tools.tour:served", folder, environment=environment, arguments=("--factory",)) as site:
                base = str(site.client.base_url).rstrip("/")
                browser.call(lambda chrome: start_page(chrome, base))
        finally:
            browser.close()


def served() -> FastAPI:
    """What ``fastapi-sqlalchemy serve`` gives for the library's database."""
    return create_app(ServeSettings(target=os.environ["DATABASE_URL"]))


def start_page(chrome: Browser, base: str) -> None:
    """Look at the start page of a served database."""
    page = chrome.new_page(viewport=DESKTOP)  # type: ignore[arg-type]
    page.goto(f"{base}/")
    keep(page, "serve-start")
    page.close()


def tour(chrome: Browser, base: str) -> None:
    """Log in, look at a list, search it, change a row, see who did, on a phone too; look at what a request asks."""
    context = chrome.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{base}/admin/")
    page.fill("#username", NAME)
    keep(page, "admin-login")
    page.fill("#password", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_selector("a.card-link")
    page.goto(f"{base}/admin/book/list?q=the&cols=title,author,shelf,price,bought")
    keep(page, "admin-list")
    page.goto(f"{base}/admin/book/edit?pk=9")
    page.fill("#price", "7.50")
    page.wait_for_selector(".select2-selection__rendered span")
    keep(page, "admin-edit")
    page.click(".card-footer button:has-text('Save'):not([name])")
    page.wait_for_selector(".alert-description")
    page.goto(f"{base}/admin/_changes")
    keep(page, "admin-changes")
    phone = chrome.new_context(viewport=PHONE, is_mobile=True, has_touch=True, storage_state=context.storage_state())  # type: ignore[arg-type]
    page = phone.new_page()
    page.goto(f"{base}/admin/book/detail?pk=3")
    keep(page, "admin-phone")
    phone.close()
    page = context.new_page()
    page.set_viewport_size({"width": DESKTOP["width"], "height": 940})
    page.goto(f"{base}/loans")
    page.goto(f"{base}/debug/db")
    page.click("a:has-text('GET /loans')")
    page.wait_for_selector("svg.waterfall")
    keep(page, "insight-request")
    context.close()


def keep(page: Page, name: str) -> None:
    """Save what the window shows."""
    page.evaluate("document.activeElement && document.activeElement.blur()")
    page.wait_for_load_state("networkidle")
    IMAGES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=IMAGES / f"{name}.png", animations="disabled", caret="hide")


if __name__ == "__main__":
    main()
