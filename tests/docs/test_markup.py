"""The pages of the documentation look on the site as they do in their files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")


@pytest.mark.parametrize("name", PAGES)
def test_a_list_stands_apart_from_the_text_before_it(name: str) -> None:
    before = ""
    for line in re.sub(r"```.*?```", "", (DOCS / name).read_text(), flags=re.DOTALL).splitlines():
        begins = _ITEM.match(line) and before and not before.startswith("  ") and not _ITEM.match(before)
        assert not begins, f"the site shows {line!r} as part of the paragraph before it"
        before = line
