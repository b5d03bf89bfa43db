"""Reads the plans of SQLite, PostgreSQL and MariaDB into lines, and finds the tables that are read as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..rest.narrowing import is_dict, is_items

__all__ = ["Plan", "mariadb_plan", "postgresql_plan", "sqlite_plan"]

_SCAN = re.compile(r"SCAN (?:TABLE )?(?!CONSTANT ROW|SUBQUERY|\()(\S+)(?! VIRTUAL)")
_CONDITIONS = ("Index Cond", "Hash Cond", "Merge Cond", "Recheck Cond", "Join Filter", "Filter", "Sort Key")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a database runs a statement.

    ``lines`` are its steps, two spaces further in for each level; ``full_scans`` the tables, by name or alias, that
    are read as a whole, be it by an index without a condition. A small table is often best read that way.
    """

    lines: tuple[str, ...]
    full_scans: tuple[str, ...]

    def __str__(self) -> str:
        scans = f"Full scans: {', '.join(self.full_scans)}" if self.full_scans else "No full scan"
        return "\n".join((*self.lines, scans))


def sqlite_plan(rows: Iterable[tuple[int, int, str]]) -> Plan:
    """Read the id, parent and detail of EXPLAIN QUERY PLAN (https://www.sqlite.org/eqp.html)."""
    depths = {0: 0}
    lines: list[str] = []
    scans: list[str] = []
    for number, parent, detail in rows:
        depth = depths.get(parent, 0)
        depths[number] = depth + 1
        lines.append("  " * depth + detail)
        found = _SCAN.match(detail)
        if found is not None:
            scans.append(found[1])
    return _plan(lines, scans)


def postgresql_plan(value: Any) -> Plan:
    """Read EXPLAIN (FORMAT JSON) (PostgreSQL manual, "Using EXPLAIN")."""
    lines: list[str] = []
    scans: list[str] = []

    def visit(node: dict[str, Any], depth: int) -> None:
        kind, table = str(node["Node Type"]), node.get("Relation Name")
        index = f" using {node['Index Name']}" if "Index Name" in node else ""
        lines.append(f"{'  ' * depth}{kind}{index}{'' if table is None else f' on {table}'}  ({_figures(node)})")
        lines.extend(f"{'  ' * depth}  {name}: {_text(node[name])}" for name in _CONDITIONS if name in node)
        if kind.endswith("Seq Scan") or (kind.startswith("Index") and "Index Cond" not in node):
            scans.append(str(table or node.get("Index Name")))
        for child in node.get("Plans", ()):
            visit(child, depth + 1)

    for entry in _parsed(value):
        visit(entry["Plan"], 0)
    return _plan(lines, scans)


def mariadb_plan(value: Any) -> Plan:
    """Read EXPLAIN FORMAT=JSON (MariaDB Knowledge Base, "EXPLAIN FORMAT=JSON"); MySQL's is read alike."""
    lines: list[str] = []
    scans: list[str] = []

    def visit(item: Any, depth: int) -> None:
        for name, below in _members(item):
            table = below if name == "table" and is_dict(below) else {}
            if "table_name" not in table:
                visit(below, depth + (name == "query_block"))
                continue
            access = str(table.get("access_type", "none"))
            key = f" by {table['key']}" if table.get("key") else ""
            rows = f"  (rows {table['rows']})" if "rows" in table else ""
            lines.append(f"{'  ' * (depth - 1)}{table['table_name']}: {access}{key}{rows}")
            if "attached_condition" in table:
                lines.append(f"{'  ' * depth}condition: {table['attached_condition']}")
            if access in ("ALL", "index"):
                scans.append(str(table["table_name"]))
            visit({key: inner for key, inner in table.items() if is_dict(inner) or is_items(inner)}, depth)

    visit(_parsed(value), 0)
    return _plan(lines or ["no table is read"], scans)


def _plan(lines: Sequence[str], scans: Sequence[str]) -> Plan:
    return Plan(tuple(lines), tuple(dict.fromkeys(scans)))


def _figures(node: dict[str, Any]) -> str:
    figures = f"cost {node['Total Cost']}, rows {node['Plan Rows']}"
    if "Actual Total Time" in node:
        figures += f"; took {node['Actual Total Time']} ms, rows {node['Actual Rows']}, loops {node['Actual Loops']}"
    return figures


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if is_items(value) else str(value)


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def _members(item: Any) -> Iterator[tuple[str, Any]]:
    if is_dict(item):
        yield from item.items()
    elif is_items(item):
        for below in item:
            yield "", below
