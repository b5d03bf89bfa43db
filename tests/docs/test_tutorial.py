"""The tutorial, typed word for word into an empty folder, ends in an application that is tested and migrated.

The quick start, and a how-to page whose blocks have titles, are typed in the same way.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Command, prints_as_shown, steps
from tests.docs.terminal import Terminal
from tests.support.databases import note_part

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL = DOCS / "tutorial"
TYPED = [
    page
    for page in sorted([DOCS / "quick-start.md", *(DOCS / "how-to").glob("*.md")])
    if '```python title="' in page.read_text()
]
URL = "postgresql://library:secret@127.0.0.1:5432/library"


def test_every_step_of_the_tutorial_prints_what_its_page_shows(postgres_url: str, tmp_path: Path) -> None:
    pages = sorted(TUTORIAL.glob("*.md"))
    assert [page.name[:2] for page in pages] == ["1-", "2-", "3-", "4-", "5-", "6-"]
    note_part("sqlite", "by the tutorial")
    with Terminal(tmp_path, {URL: postgres_url}) as terminal:
        for page in pages:
            for step in steps(page):
                terminal.take(step)


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.stem)
def test_another_page_with_files_is_typed_as_well(page: Path, postgres_url: str, tmp_path: Path) -> None:
    with Terminal(tmp_path, {"postgresql://app:secret@127.0.0.1:5432/app": postgres_url}) as terminal:
        for step in steps(page):
            terminal.take(step)


def page_of(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text)
    return page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```console\n$ echo one\ntwo\n```\n", "printed\none"),
        ("```console\n$ echo one\n```\n", "printed\none"),
        ("```console\n$ false\n```\n", "ended with 1"),
        ('```console\n$ pip install "fastapi-sqlalchemy[postgress]"\n```\n', "postgres"),
        ("```console\n$ uvicorn nothing:app\nINFO:     Application startup complete.\n```\n", "nothing"),
    ],
    ids=[
        "another output",
        "an output that is not shown",
        "a failure",
        "an unknown extra",
        "a server that does not start",
    ],
)
def test_a_page_that_lies_is_found_out(tmp_path: Path, text: str, message: str) -> None:
    with Terminal(tmp_path) as terminal, pytest.raises(AssertionError, match=message):
        for step in steps(page_of(tmp_path, text)):
            terminal.take(step)


@pytest.mark.parametrize("block", ["```python\nprint(1)\n```\n", "```console\necho no prompt\n```\n"])
def test_a_block_that_nobody_could_type_is_an_error(tmp_path: Path, block: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md:1"):
        list(steps(page_of(tmp_path, block)))


def test_a_failure_is_shown_by_asking_for_its_code(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        for step in steps(page_of(tmp_path, "```console\n$ false\n$ echo $?\n1\n```\n")):
            assert isinstance(step, Command)
            terminal.take(step)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (("3 passed in 1.20s",), "3 passed in 0.07s", True),
        (("3 passed in 1.20s",), "2 passed in 1.20s", False),
        (("applied 217b8a5a8d81  first",), "applied 0123456789ab  first", True),
        (("first", "...", "last"), "first\na\nb\nlast", True),
        (("first", "...", "last"), "a\nlast", False),
    ],
)
def test_figures_are_compared_by_their_kind_and_all_else_by_the_letter(
    shown: tuple[str, ...], printed: str, same: bool
) -> None:
    assert prints_as_shown(shown, printed) is same
