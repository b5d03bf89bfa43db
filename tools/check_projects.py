"""Checks what ``fastapi-sqlalchemy new`` writes, in all its forms, with ruff and mypy as its own settings say.

``make check`` calls it.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from fastapi_sqlalchemy.cli import run

FORMS = [(layout, kind) for layout in ("flat", "domain") for kind in ("async", "sync")]
CACHE = Path(__file__).parents[1] / ".mypy_cache" / "projects"
COMMANDS = (("ruff", "check"), ("ruff", "format", "--check"), ("mypy", "--cache-dir", str(CACHE)))


def main() -> int:
    """Return how many checks found something."""
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for layout, kind in FORMS:
            project = Path(folder) / f"{layout}-{kind}"
            with redirect_stdout(io.StringIO()):
                failures += run(["new", str(project), "--layout", layout, f"--{kind}"]) != 0
            for command in COMMANDS:
                failures += subprocess.run([sys.executable, "-m", *command], cwd=project, check=False).returncode != 0
    return failures


if __name__ == "__main__":
    sys.exit(main())
