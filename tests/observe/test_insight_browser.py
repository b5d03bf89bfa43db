"""The page of the last requests in a real Chromium: hostile strings are text, and plans come at a click."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.admin.hostile import HOSTILE
from tests.support.browser import DESKTOP, PHONE, BrowserThread, Window, open_window
from tests.support.uvicorn import Running, serve_app

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An application with hostile statements, which were run, and hostile paths, which were asked for."""
    folder = tmp_path_factory.mktemp("hostile")
    environment = {"HOSTILE_URL": f"sqlite:///{folder / 'hostile.db'}"}
    with serve_app("tests.observe.apps.hostile:app", folder, environment=environment) as site:
        assert site.client.get("/statements").json() == len(HOSTILE)
        for text in HOSTILE:
            assert site.client.get(f"/paths/{quote(text, safe='')}").json() == len(text)
        yield site


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_hostile_statements_and_paths_are_shown_as_text(
    browser: BrowserThread, site: Running, size: dict[str, int]
) -> None:
    def steps(chrome: Browser) -> None:
        with open_window(Window, chrome, str(site.client.base_url), size) as window:
            page = window.open("/debug/db")
            shown = page.locator("td code").all_text_contents()
            assert shown[: len(HOSTILE)] == [f"GET /paths/{text}" for text in reversed(HOSTILE)]
            window.fits()
            window.follow(lambda: page.click("a:has-text('GET /statements')"))
            shown = page.locator("td > pre").all_text_contents()
            assert shown == ["SELECT '{}'".format(text.replace("'", "''")) for text in HOSTILE]
            assert page.locator("svg.waterfall rect").count() == 100
            window.fits()
            window.follow(lambda: page.click("button:has-text('Explain') >> nth=0"))
            expect(page.locator("pre.plan")).to_have_text("SCAN CONSTANT ROW")
            expect(page.locator("main > pre").first).to_have_text("SELECT '{}'".format(HOSTILE[0].replace("'", "''")))
            assert window.ran() == []

    browser.call(steps)
