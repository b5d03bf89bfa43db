"""Every Python block of the documentation runs, and the README's first screen answers as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.support.nursery import python
from tests.support.plugins import WITHOUT_FOREIGN_PLUGINS
from tests.support.uvicorn import serve_app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
README = PAGES[0].read_text()


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


BLOCKS = {
    f"{'_'.join(page.relative_to(ROOT).with_suffix('').parts).replace('-', '_')}_{number}": block
    for page in PAGES
    for number, block in enumerate(python_blocks(page.read_text()))
}
RUN_EACH = """
import os, pathlib, sys
for path in sorted(pathlib.Path.cwd().glob("*/block.py")):
    os.chdir(path.parent)
    exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), {"__name__": path.parent.name})
"""


def run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [python(), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_python_block_runs(tmp_path: Path) -> None:
    blocks = {name: block for name, block in BLOCKS.items() if "def test_" not in block}
    assert len(blocks) >= 8
    for name, block in blocks.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "block.py").write_text(block)
    run(tmp_path, "-c", RUN_EACH)


def test_blocks_that_are_tests_pass_on_the_first_application_and_the_rows_typed_into_it(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(python_blocks(README)[0])
    run(tmp_path, "-c", "import main; main.db.create_all(); main.db.sync_context(main.add_user)('ada@example.com')")
    blocks = {name: block for name, block in BLOCKS.items() if "def test_" in block}
    assert blocks
    for name, block in blocks.items():
        (tmp_path / f"test_{name}.py").write_text(block)
    run(
        tmp_path,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        *WITHOUT_FOREIGN_PLUGINS,
        *(f"test_{name}.py" for name in blocks),
    )


def test_the_first_screen_answers_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(python_blocks(README)[0])
    console = next(block for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) if "uvicorn" in block)
    lines = console.splitlines()
    requests = [(line, lines[at + 1]) for at, line in enumerate(lines) if line.startswith("$ curl")]
    assert len(requests) == 3
    with serve_app("main:app", tmp_path, arguments=("--app-dir", str(tmp_path))) as app:
        for command, shown in requests:
            answer = as_curl(app.client, command)
            assert answer.text == shown
            assert answer.json() == json.loads(shown)


def as_curl(client: httpx2.Client, command: str) -> httpx2.Response:
    """Send what ``curl [-X METHOD] [']HOST/PATH[']`` would."""
    found = re.fullmatch(r"\$ curl (?:-X (\w+) )?'?127\.0\.0\.1:8000([^']*)'?", command)
    assert found is not None, command
    return client.request(found.group(1) or "GET", found.group(2))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http|#)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_example_is_linked_from_the_readme_and_has_its_own() -> None:
    folders = {path.parent.name for path in (ROOT / "examples").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"\(examples/(\w+)\)", README))
    for folder in folders:
        assert (ROOT / "examples" / folder / "README.md").exists(), folder
