"""The templates of starlette-admin without what a strict Content-Security-Policy refuses."""

from __future__ import annotations

import re
from types import CodeType

from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from jinja2.ext import Extension

__all__ = ["HANDLERS", "SharedCode", "StrictMarkup"]

HANDLERS = {
    'onclick="applyColumnVisibility()"': 'data-admin-action="apply-columns"',
    'onchange="window.location = this.value"': 'data-admin-action="follow"',
}
"""Event handlers of the templates, and the attributes by which our script finds the same elements."""

_BLOCK = re.compile(r"<(script|style)(?=[\s>])")
_STYLE = re.compile(r"\sstyle=(?=[\"'])")
_SPACES = re.compile(r"\s+")
_STYLE_VALUE = re.compile(r'(\sdata-style=")([^"{]*)(")')


class StrictMarkup(Extension):
    """Gives the scripts that templates hold the nonce of the page, and turns handlers and styles into plain attributes.

    Only what stands in a template is touched, never what comes from the database: a script there has no nonce.
    """

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return the source of a template as it is compiled."""
        source = _BLOCK.sub(r'<\1 nonce="{{ csp_nonce() }}"', source)
        for handler, attribute in HANDLERS.items():
            source = source.replace(handler, attribute)
        source = _STYLE.sub(" data-style=", source)
        return _STYLE_VALUE.sub(lambda found: found[1] + _SPACES.sub(" ", found[2]).strip() + found[3], source)


class SharedCode(BytecodeCache):
    """Compiled templates, kept for all admins of the process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give a template the code that another admin has compiled from the same source."""
        bucket.code = self._known.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code of a template."""
        if bucket.code is not None:
            self._known[bucket.key, bucket.checksum] = bucket.code
