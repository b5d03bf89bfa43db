"""A request's statements, waits and commits on its time line, as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from .requests import SeenRequest

__all__ = ["waterfall"]

_MAX_BARS = 100
_WIDTH, _LABEL, _ROW, _TOP = 960, 240, 18, 24
_TICKS = 4


class _Bar(NamedTuple):
    started: float
    seconds: float
    kind: str
    label: str


def waterfall(seen: SeenRequest) -> str:
    """Draw a request, one row a statement, wait or commit, at most 100; styled by the page that it stands in."""
    bars = sorted(_bars(seen))[:_MAX_BARS]
    total = max([seen.seconds, 1e-6, *(bar.started - seen.started + bar.seconds for bar in bars)])
    scale = (_WIDTH - _LABEL) / total
    height = _TOP + _ROW * len(bars) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="waterfall" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="Time line of the request: {len(bars)} steps in {1000 * seen.seconds:.1f} ms">'
    ]
    for tick in range(_TICKS + 1):
        at = _LABEL + (_WIDTH - _LABEL) * tick / _TICKS
        anchor = "end" if tick == _TICKS else "start"
        parts.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{height}"/>')
        parts.append(
            f'<text class="axis" x="{at + (-3 if tick == _TICKS else 3):.1f}" y="13" text-anchor="{anchor}">'
            f"{1000 * total * tick / _TICKS:.1f} ms</text>"
        )
    for row, bar in enumerate(bars):
        top = _TOP + row * _ROW
        start = _LABEL + max(bar.started - seen.started, 0.0) * scale
        width = max(bar.seconds * scale, 1.5)
        parts.append(
            f"<g><title>{escape(bar.label)}: {1000 * bar.seconds:.2f} ms</title>"
            f'<text x="0" y="{top + 12}">{escape(bar.label[:34])}</text>'
            f'<rect class="{bar.kind}" x="{start:.1f}" y="{top + 2}" width="{width:.1f}" '
            f'height="{_ROW - 5}" rx="2"/></g>'
        )
    return "".join((*parts, "</svg>"))


def _bars(seen: SeenRequest) -> Iterator[_Bar]:
    repeated = seen.duplicates()
    for place, statement in enumerate(seen.statements):
        kind = "failed" if statement.error else "repeated" if place in repeated else "statement"
        yield _Bar(statement.started, statement.total, kind, f"{place + 1} {' '.join(statement.sql.split())[:60]}")
    for interval in seen.intervals:
        label = "wait for a connection" if interval.kind == "wait" else "commit"
        yield _Bar(interval.started, interval.seconds, interval.kind, label)
