"""The documentation as a site: it builds without a warning, every page is in its menu, every link leads somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
_FENCED = re.compile(r"```.*?```", re.DOTALL)


def menu(entries: list[Any]) -> list[str]:
    found: list[str] = []
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += menu(value) if isinstance(value, list) else [value]
    return found


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_every_page_is_in_the_menu_once() -> None:
    assert sorted(menu(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == PAGES


@pytest.mark.parametrize("name", PAGES)
def test_every_link_between_pages_leads_to_a_page_and_a_heading(name: str) -> None:
    page = DOCS / name
    for target, heading in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)]+))?\)", _FENCED.sub("", page.read_text())):
        other = (page.parent / target).resolve() if target else page
        assert other.is_file() and other.is_relative_to(DOCS), f"{name} leads to {target}, which is no file of docs/"
        assert not heading or heading in anchors(other), f"{name} leads to {target}#{heading}, which is no heading"


def test_the_site_builds_without_a_warning_and_asks_nobody_else_for_anything(tmp_path: Path) -> None:
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in PAGES:
        folder = page.removesuffix("index.md").removesuffix(".md")
        html = (tmp_path / "site" / folder / "index.html").read_text()
        assets = re.findall(r"""<(?:script|img|link)[^>]*?(?:src|href)=["']?(https?:)?//""", html)
        assert not assets, f"{page} asks another server for an asset"
    assert "Commits a clean request" in text_of(tmp_path / "site/reference/api/database/index.html").replace(
        "commits", "Commits"
    )


def text_of(page: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page.read_text()))
