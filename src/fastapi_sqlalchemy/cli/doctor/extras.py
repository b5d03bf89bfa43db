"""Which extras of the package are installed, by its own metadata."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution, requires

from .finding import Finding, ok

__all__ = ["check_extras"]

_NEEDS = re.compile(r"([A-Za-z0-9._-]+).*extra == ['\"]([a-z]+)['\"]")


def check_extras() -> Finding:
    """Say which extras are there, and which are not."""
    needs: dict[str, list[str]] = {}
    for line in requires("fastapi-sqlalchemy") or []:
        found = _NEEDS.match(line)
        if found is not None and found[2] != "all":
            needs.setdefault(found[2], []).append(found[1])
    there = {extra for extra, names in needs.items() if all(map(_is_installed, names))}
    told = f"Installed: {', '.join(sorted(there)) or 'none'}"
    missing = sorted(set(needs) - there)
    return ok("extras", f"{told}; not installed: {', '.join(missing)}." if missing else f"{told}.")


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
