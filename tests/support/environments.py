"""Makes an environment that holds a wheel of this package and what is asked for, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

__all__ = ["make_environment"]

ROOT = Path(__file__).parents[2]


def make_environment(folder: Path, requirements: Iterable[str]) -> Path:
    """Returns the folder of the environment's programs, among them python.

    The package is installed from its wheel. The distributions that it and the requirements ask for, and those that
    these ask for, are those of the running environment, by links, which also lead to their compiled modules; an
    AssertionError says which of them is of a version that was not asked for.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    wheel = next(iter(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))
    pip = [sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    (site,) = folder.glob("venv/lib/python*/site-packages")
    wanted = [Requirement(requirement) for requirement in requirements]
    seen: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        found = next(iter(metadata.distributions(name=requirement.name, path=[str(site)])), None)
        if found is None:
            found = metadata.distribution(requirement.name)
            _link(found, site, python)
        assert requirement.specifier.contains(found.version, prereleases=True), f"{requirement}: {found.version}"
        for needed in map(Requirement, found.requires or []):
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(needed)
    return python.parent


def _link(distribution: metadata.Distribution, site: Path, python: Path) -> None:
    """Link every file by itself: what is compiled or written anew stays in this environment."""
    for file in distribution.files or []:
        original = Path(str(distribution.locate_file(file)))
        if file.parent.name == "bin":
            script = python.with_name(file.name)
            script.write_text(re.sub(r"\A#!.*", f"#!{python}", original.read_text()))
            script.chmod(0o755)
        elif file.parts[0] != "..":
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).symlink_to(original)
