"""The HTML of the page of the last requests: no script, no style but one sheet, and everything escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files

from .requests import RequestLog, SeenRequest
from .statement import Statement
from .waterfall import waterfall

__all__ = ["STYLE", "list_page", "plan_page", "request_page"]

STYLE = (files("fastapi_sqlalchemy.observe") / "static" / "insight.css").read_text(encoding="utf-8")


def list_page(log: RequestLog, base: str) -> str:
    """The page of all requests that are kept."""
    rows = "".join(_row(seen, base) for seen in log)
    if not rows:
        rows = '<tr><td colspan="9">No request yet. This page does not count itself.</td></tr>'
    return _page(
        "Requests",
        base,
        f"<h1>Last requests</h1><p><a href='{escape(base)}'>Refresh</a> · <a href='{escape(base)}.json'>JSON</a></p>"
        "<div class='wide'><table><thead><tr><th>at (UTC)<th>request<th class='n'>status<th class='n'>ms"
        "<th class='n'>database ms<th class='n'>wait ms<th class='n'>commit ms"
        "<th class='n'>statements<th>N+1</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>",
    )


def request_page(seen: SeenRequest, base: str, parameters_of: Callable[[Statement], str | None]) -> str:
    """The page of one request."""
    repeated = seen.duplicates()
    rows = "".join(
        _statement(seen, place, statement, repeated, base, parameters_of(statement))
        for place, statement in enumerate(seen.statements)
    )
    left_out = seen.count - len(seen.statements)
    more = f"<p>{left_out} more statements are not kept.</p>" if left_out else ""
    found = "".join(f"<li>{escape(str(finding))}</li>" for finding in seen.findings)
    return _page(
        f"{seen.method} {seen.path}",
        base,
        f"<h1><code>{escape(seen.method)} {escape(seen.path)}</code> {_status(seen)}</h1>"
        f"<p>{_ms(seen.seconds)} ms in all, {_ms(seen.database_seconds)} ms in the database for {seen.count} "
        f"statements, {_ms(seen.spent_on['wait'])} ms of waiting for a connection, "
        f"{_ms(seen.spent_on['commit'])} ms of commits. "
        f"<a href='{escape(base)}/{seen.number}.json'>JSON</a></p>"
        + (f"<h2>N+1</h2><ul class='found'>{found}</ul>" if found else "")
        + f"{waterfall(seen)}<h2>Statements</h2>{more}<div class='wide'><table><thead><tr><th class='n'>#"
        "<th class='n'>at ms<th class='n'>ms<th class='n'>rows<th>statement<th>plan</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>",
    )


def plan_page(seen: SeenRequest, place: int, base: str, lines: Sequence[str], full_scans: Iterable[str]) -> str:
    """The page of the plan of a statement, or of why there is none."""
    scans = ", ".join(full_scans)
    note = f"<p class='warning'>Read as a whole: {escape(scans)}</p>" if scans else ""
    statement = seen.statements[place - 1]
    return _page(
        f"Plan of statement {place}",
        base,
        f"<h1>Plan of statement {place}</h1>"
        f"<p><a href='{escape(base)}/{seen.number}'>{escape(seen.method)} {escape(seen.path)}</a></p>"
        f"<pre>{escape(statement.sql)}</pre>{note}<pre class='plan'>{escape(chr(10).join(lines))}</pre>",
    )


def _page(title: str, base: str, body: str) -> str:
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><link rel='stylesheet' href='{escape(base)}/style.css'></head>"
        f"<body><nav><a href='{escape(base)}'>Last requests</a></nav><main>{body}</main></body></html>"
    )


def _row(seen: SeenRequest, base: str) -> str:
    found = f"<strong class='warning'>{len(seen.findings)}</strong>" if seen.findings else ""
    figures = (seen.seconds, seen.database_seconds, seen.spent_on["wait"], seen.spent_on["commit"])
    return (
        f"<tr><td>{seen.at:%H:%M:%S}<td><a href='{escape(base)}/{seen.number}'>"
        f"<code>{escape(seen.method)} {escape(seen.path)}</code></a><td class='n'>{_status(seen)}"
        + "".join(f"<td class='n'>{_ms(figure)}" for figure in figures)
        + f"<td class='n'>{seen.count}<td>{found}</tr>"
    )


def _statement(
    seen: SeenRequest, place: int, statement: Statement, repeated: dict[int, int], base: str, parameters: str | None
) -> str:
    notes: list[str] = []
    if statement.line is not None:
        notes.append(escape(str(statement.line)))
    if place in repeated:
        notes.append(f"<strong class='warning'>the same as {repeated[place] + 1}</strong>")
    if statement.lazy is not None:
        notes.append(f"loads {escape(statement.lazy.model.__name__)}.{escape(statement.lazy.attribute)}")
    if statement.error is not None:
        notes.append(f"<strong class='warning'>{escape(statement.error)}</strong>")
    shown = "" if parameters is None else f"<pre class='parameters'>{escape(parameters)}</pre>"
    rows = "" if statement.rows is None else str(statement.rows)
    return (
        f"<tr id='s{place + 1}'><td class='n'>{place + 1}<td class='n'>{_ms(statement.started - seen.started)}"
        f"<td class='n'>{_ms(statement.total)}<td class='n'>{rows}"
        f"<td><pre>{escape(statement.sql)}</pre>{shown}<p class='notes'>{' · '.join(notes)}</p>"
        f"<td>{_plan_form(seen, place, statement, base)}</tr>"
    )


def _plan_form(seen: SeenRequest, place: int, statement: Statement, base: str) -> str:
    address = f"{escape(base)}/{seen.number}/{place + 1}/explain"
    engine = statement.engine()
    measured = engine is not None and engine.dialect.name == "postgresql" and statement.is_select
    analyze = f"<button formaction='{address}?analyze=1'>Analyze</button>" if measured else ""
    return f"<form method='post' action='{address}'><button>Explain</button>{analyze}</form>"


def _status(seen: SeenRequest) -> str:
    if seen.status is None:
        return "<strong class='warning'>no response</strong>"
    return str(seen.status) if seen.status < 400 else f"<strong class='warning'>{seen.status}</strong>"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
