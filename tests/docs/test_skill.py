"""The skill file for coding agents is in the wheel, names its topic, and its code runs."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from tests.support.nursery import python

ROOT = Path(__file__).parents[2]
NAME = "fastapi_sqlalchemy/.agents/skills/fastapi-sqlalchemy/SKILL.md"
SKILL = (ROOT / "src" / NAME).read_text()


def test_the_wheel_holds_the_skill_file_and_what_the_package_reads(tmp_path: Path) -> None:
    wheel = next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    held = zipfile.ZipFile(wheel).namelist()
    files = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/fastapi_sqlalchemy").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert NAME in held
    assert files - set(held) == set()


def test_the_skill_file_names_itself_and_when_to_use_it() -> None:
    head = re.match(r"---\nname: ([a-z-]+)\ndescription: (.+)\n---\n", SKILL)
    assert head is not None
    assert head.group(1) == "fastapi-sqlalchemy"
    assert "Use when" in head.group(2)
    assert len(head.group(2)) < 1024


def test_every_block_of_the_skill_file_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", SKILL, re.DOTALL)
    assert len(blocks) == 4
    code = "\n".join(f"exec({block!r}, {{'__name__': 'block{number}'}})" for number, block in enumerate(blocks))
    done = subprocess.run(
        [python(), "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
