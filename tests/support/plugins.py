"""Plugins of pytest that are installed here for other reasons, and cost a run of a small project seconds to load."""

from __future__ import annotations

__all__ = ["WITHOUT_FOREIGN_PLUGINS"]

WITHOUT_FOREIGN_PLUGINS = ("-p", "no:faker", "-p", "no:hypothesispytest", "-p", "no:schemathesis")
"""The options that leave out the plugins that a user's project has no part in."""
