"""The schema as a picture: tables and their foreign keys as SVG, made here, with no outside asset."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import sqlalchemy as sa

__all__ = ["diagram"]

_MAX_COLUMNS = 12
_MAX_CHARACTERS = 30
_LINE = 18
_HEAD = 26
_CHARACTER = 7.3
_GAP_X = 90
_GAP_Y = 26
_MARGIN = 24
_PASSES = 6
_HUES = (210, 25, 140, 280, 340, 180, 50, 100)


@dataclass(eq=False)
class _Box:
    """One table with its place."""

    table: sa.Table
    name: str
    lines: list[tuple[str, str]]
    more: int
    parents: set[str] = field(default_factory=set[str])
    children: set[str] = field(default_factory=set[str])
    x: float = 0
    y: float = 0

    @property
    def width(self) -> float:
        longest = max(_width(self.name) + 2, *(_width(name) + 4 for name, _ in self.lines))
        return max(120.0, longest * _CHARACTER + 20)

    @property
    def height(self) -> float:
        return float(_HEAD + _LINE * (len(self.lines) + (1 if self.more else 0)) + 6)

    def line_of(self, column: str) -> float:
        """The height at which an edge meets a column, or the head."""
        for number, (name, _) in enumerate(self.lines):
            if name == column:
                return self.y + _HEAD + _LINE * number + _LINE / 2 + 2
        return self.y + _HEAD / 2


def diagram(tables: Iterable[sa.Table]) -> str:
    """Return an SVG document with a box for each table and a line for each foreign key between them.

    Tables stand right of those that they refer to; those without foreign keys stand below.
    """
    boxes = {_key(table): _box(table) for table in tables}
    edges = _edges(boxes)
    for source, target, *_ in edges:
        if source != target:
            boxes[source].parents.add(target)
            boxes[target].children.add(source)
    linked = [box for box in boxes.values() if box.parents or box.children]
    alone = [box for box in boxes.values() if not box.parents and not box.children]
    bottom = _place(_layers(linked, boxes), boxes)
    _place_alone(alone, bottom, max((box.x + box.width for box in linked), default=900.0))
    width = max((box.x + box.width for box in boxes.values()), default=200) + _MARGIN + 20
    height = max((box.y + box.height for box in boxes.values()), default=60) + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="ui-monospace, Menlo, Consolas, monospace" '
        'font-size="12" role="img">',
        "<title>Tables and foreign keys</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        *(
            _edge(boxes[source], boxes[target], column, other, nullable)
            for source, target, column, other, nullable in edges
        ),
        *(_drawing(box) for box in boxes.values()),
        "</svg>",
    ]
    return "\n".join(parts)


def _key(table: sa.Table) -> str:
    return str(table.key)


def _box(table: sa.Table) -> _Box:
    foreign = {element.parent.name for constraint in table.foreign_key_constraints for element in constraint.elements}
    keys = {column.name for column in table.primary_key.columns}
    important = [column.name for column in table.columns if column.name in keys | foreign]
    others = [column.name for column in table.columns if column.name not in keys | foreign]
    shown = set([*important, *others][:_MAX_COLUMNS])
    lines = [
        (column.name, "key" if column.name in keys else "reference" if column.name in foreign else "")
        for column in table.columns
        if column.name in shown
    ]
    name = table.name if table.schema is None else f"{table.schema}.{table.name}"
    return _Box(table, name, lines or [("", "")], len(table.columns) - len(lines))


def _edges(boxes: dict[str, _Box]) -> list[tuple[str, str, str, str, bool]]:
    """(table, table it refers to, column, column there, may be null) for each foreign key whose tables are here."""
    found: list[tuple[str, str, str, str, bool]] = []
    for key, box in boxes.items():
        for constraint in box.table.foreign_key_constraints:
            first = constraint.elements[0]
            target, _, column = first.target_fullname.rpartition(".")
            if target in boxes:
                found.append((key, target, first.parent.name, column, bool(first.parent.nullable)))
    return sorted(found)


def _layers(linked: Sequence[_Box], boxes: dict[str, _Box]) -> list[list[_Box]]:
    """Columns of boxes: each right of those it refers to, circles broken where they are met."""
    depth: dict[str, int] = {}

    def of(key: str, path: frozenset[str]) -> int:
        if key not in depth:
            above = [of(parent, path | {key}) for parent in sorted(boxes[key].parents) if parent not in path | {key}]
            depth[key] = 1 + max(above, default=-1)
        return depth[key]

    for box in linked:
        of(_key(box.table), frozenset())
    layers: list[list[_Box]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for box in linked:
        layers[depth[_key(box.table)]].append(box)
    tallest = max(700.0, math.sqrt(sum(box.height + _GAP_Y for box in linked) * 260))
    return [part for layer in layers for part in _split(layer, tallest)]


def _split(layer: list[_Box], tallest: float) -> list[list[_Box]]:
    """A column that would be too tall, as several."""
    total = sum(box.height + _GAP_Y for box in layer)
    count = max(1, math.ceil(total / tallest))
    size = math.ceil(len(layer) / count)
    return [layer[start : start + size] for start in range(0, len(layer), size)]


def _place(layers: list[list[_Box]], boxes: dict[str, _Box]) -> float:
    """Give each box its place, near the middle of its neighbours; return the lowest point."""
    x = float(_MARGIN)
    for layer in layers:
        for box in layer:
            box.x = x
        _stack(layer)
        x += max(box.width for box in layer) + _GAP_X

    def middle(box: _Box) -> float:
        near = [boxes[key] for key in (*box.parents, *box.children)]
        return sum(item.y + item.height / 2 for item in near) / len(near) if near else box.y

    for number in range(_PASSES):
        for layer in layers if number % 2 == 0 else reversed(layers):
            layer.sort(key=lambda box: (middle(box), box.name))
            _stack(layer)
    tallest = max((sum(box.height + _GAP_Y for box in layer) for layer in layers), default=0.0)
    for layer in layers:
        own = sum(box.height + _GAP_Y for box in layer)
        for box in layer:
            box.y += (tallest - own) / 2
    return _MARGIN + tallest


def _stack(layer: list[_Box]) -> None:
    y = float(_MARGIN)
    for box in layer:
        box.y = y
        y += box.height + _GAP_Y


def _place_alone(alone: list[_Box], top: float, width: float) -> None:
    x, y, row = float(_MARGIN), max(top, float(_MARGIN)), 0.0
    for box in alone:
        if x > _MARGIN and x + box.width > max(width, 900):
            x, y, row = float(_MARGIN), y + row + _GAP_Y, 0.0
        box.x, box.y = x, y
        x += box.width + _GAP_Y
        row = max(row, box.height)


def _edge(source: _Box, target: _Box, column: str, other: str, nullable: bool) -> str:
    start, end = source.line_of(column), target.line_of(other)
    hue = _HUES[sum(target.name.encode()) % len(_HUES)]
    dashes = ' stroke-dasharray="5 3"' if nullable else ""
    if source is target:
        x = source.x + source.width
        path = f"M{x:.0f} {start:.0f} C{x + 34:.0f} {start:.0f} {x + 34:.0f} {end:.0f} {x:.0f} {end:.0f}"
        tip, side = x, 1
    elif target.x + target.width < source.x:
        tip, side = target.x + target.width, 1
        path = _curve(source.x, start, -1, tip, end, 1)
    elif target.x > source.x + source.width:
        tip, side = target.x, -1
        path = _curve(source.x + source.width, start, 1, tip, end, -1)
    else:
        tip, side = target.x, -1
        path = _curve(source.x, start, -1, tip, end, -1)
    arrow = f"M{tip:.0f} {end:.0f} l{8 * side} -4 v8 z"
    title = escape(f"{source.name}.{column} refers to {target.name}.{other}")
    color = f"hsl({hue}, 55%, 42%)"
    return (
        f'<g><title>{title}</title><path d="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dashes}/>'
        f'<path d="{arrow}" fill="{color}"/></g>'
    )


def _curve(x1: float, y1: float, side1: int, x2: float, y2: float, side2: int) -> str:
    reach = max(40.0, min(120.0, abs(x2 - x1) / 2))
    return f"M{x1:.0f} {y1:.0f} C{x1 + side1 * reach:.0f} {y1:.0f} {x2 + side2 * reach:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"


def _drawing(box: _Box) -> str:
    x, y, width, height = box.x, box.y, box.width, box.height
    parts = [
        f'<g><title>{_text(box.name)}</title><rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" '
        'rx="4" fill="#ffffff" stroke="#3d5a80"/>',
        f'<path d="M{x:.0f} {y + _HEAD:.0f} v-{_HEAD - 4} q0 -4 4 -4 h{width - 8:.0f} q4 0 4 4 v{_HEAD - 4} z" '
        'fill="#3d5a80"/>',
        f'<text x="{x + 10:.0f}" y="{y + 17:.0f}" fill="#ffffff" font-weight="bold">{_text(_short(box.name))}</text>',
    ]
    for number, (name, role) in enumerate(box.lines):
        line = y + _HEAD + _LINE * number + 15
        style = ' font-weight="bold"' if role == "key" else ""
        fill = "#1a56a0" if role == "reference" else "#222222"
        parts.append(f'<text x="{x + 10:.0f}" y="{line:.0f}" fill="{fill}"{style}>{_text(_short(name))}</text>')
    if box.more:
        line = y + _HEAD + _LINE * len(box.lines) + 15
        parts.append(f'<text x="{x + 10:.0f}" y="{line:.0f}" fill="#666666">+ {box.more} more</text>')
    return "".join([*parts, "</g>"])


def _short(name: str) -> str:
    return name if len(name) <= _MAX_CHARACTERS else f"{name[: _MAX_CHARACTERS - 1]}…"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in _short(text))


def _text(text: str) -> str:
    """Text for XML, which has no place for control characters (https://www.w3.org/TR/xml/#charsets)."""
    allowed = (
        character if character in "\t\n\r" or (character >= " " and character not in "\ufffe\uffff") else "\ufffd"
        for character in text.encode("utf-8", "replace").decode("utf-8", "replace")
    )
    return escape("".join(allowed))
