"""The packages of the extra ``admin``, asked for when an admin is made and not before."""

from __future__ import annotations

from importlib.util import find_spec

from ..exceptions import MissingExtraError

__all__ = ["require_extra"]

_NEEDED = ("argon2", "itsdangerous", "jinja2", "python_multipart", "starlette_admin")


def require_extra() -> None:
    """Raise `MissingExtraError` where a package of the extra is not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f'The admin needs {", ".join(missing)}. Install it with: pip install "fastapi-sqlalchemy[admin]"'
        )
