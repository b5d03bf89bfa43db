"""The figures of the scorecard: each reliability test records what it saw, and the run prints them as a table."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

__all__ = ["read_figures", "record_figure"]

_FOLDER = "FSA_TEST_FIGURES"


def record_figure(
    line: str, *, variant: str = "", n: int, failures: int, seed: int | None = None, **measured: Any
) -> None:
    """Record one line of the scorecard: ``n`` runs, how many failed, and anything else that was measured."""
    folder = os.environ.get(_FOLDER)
    if folder:
        entry = {"line": line, "variant": variant, "n": n, "failures": failures, "seed": seed, **measured}
        (Path(folder) / f"{line}-{uuid.uuid4().hex}.json").write_text(json.dumps(entry))


def read_figures(folder: Path) -> list[dict[str, Any]]:
    """What was recorded, by line and variant."""
    entries = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(entries, key=lambda entry: (int("".join(filter(str.isdigit, entry["line"])) or 0), entry["variant"]))
