"""The environments of the peers: one each, made on first use, so that no versions clash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.contenders import Contender

__all__ = ["python_of"]

FOLDER = Path(__file__).parent / ".venvs"


def python_of(contender: Contender) -> Path | None:
    """The interpreter that serves a contender; None where its environment cannot be made here."""
    if not contender.requirements:
        return Path(sys.executable)
    folder = FOLDER / contender.name
    python, made_of = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(contender.requirements)
    if made_of.exists() and made_of.read_text() == wanted:
        return python
    print(f"Setting up the environment of {contender.title}", file=sys.stderr)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *contender.requirements]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(install, check=True)
    except subprocess.CalledProcessError as error:
        print(f"{contender.title} is left out: {error}", file=sys.stderr)
        return None
    made_of.write_text(wanted)
    return python
