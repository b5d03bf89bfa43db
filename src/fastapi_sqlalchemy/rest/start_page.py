"""The page at ``/`` of a served database: its tables with row counts, and where the documentation is."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

from .reflect import Served, Skipped
from .row_counts import RowCount

__all__ = ["docs_page", "page_response", "start_page", "svg_response"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td.rows, th.rows { text-align: right }
a { color: #1a56a0 }
.note { color: #a03000 }
.quiet { color: #666 }
figure { margin: 1rem 0; overflow: auto; border: 1px solid #ddd }
@media (prefers-color-scheme: dark) {
  body { background: #16191d; color: #ddd } a { color: #8ab4f8 } th, td, figure { border-color: #444 }
  .note { color: #ff9a6b } .quiet { color: #999 }
}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def start_page(
    title: str,
    served: Sequence[Served],
    skipped: Sequence[Skipped],
    counts: Mapping[str, RowCount] | None,
    *,
    docs: str,
    document: str,
    diagram: str | None,
    admin: str | None,
    icon: str,
    write: bool,
) -> str:
    """Return the page.

    ``counts`` are by name, None where the caller may not see them; ``docs``, ``document``, ``diagram``, ``admin`` and
    ``icon`` are paths: of the documentation, the OpenAPI document, the picture of the schema, the admin and the icon.
    """
    links = [f'<a href="{_href(docs)}">Documentation</a>', f'<a href="{_href(document)}">OpenAPI</a>']
    if admin is not None:
        links.append(f'<a href="{_href(admin)}">Admin</a>')
    picture = ""
    if diagram is not None:
        links.append(f'<a href="{_href(diagram)}">Diagram</a>')
        picture = (
            f'<h2>Tables and foreign keys</h2>\n<figure><a href="{_href(diagram)}">'
            f'<img src="{_href(diagram)}" alt="Tables and foreign keys"></a></figure>'
        )
    told = ["Rows can be read and changed." if write else "Rows can be read."]
    if any(str(count).startswith("≈") for count in (counts or {}).values()):
        told.append("Numbers with ≈ are estimates.")
    example = next((item for item in served if item.problem is None and item.resource is not None), None)
    rows = "\n".join(_row(item, counts, docs) for item in served)
    listed = {item.name for item in served}
    reasons = [item for item in skipped if item.reason not in ("excluded", "not named") and item.name not in listed]
    left_out = "".join(f"<li>{escape(item.name)}</li>" for item in reasons)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" type="image/svg+xml" href="{_href(icon)}">
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{" · ".join(links)}</p>
<p class="quiet">{" ".join(told)}</p>
{"" if example is None else _examples(example)}
<table>
<thead><tr><th>Name</th><th>Kind</th><th class="rows">Rows</th><th>Key</th><th></th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
{picture}
{f"<h2>Not served</h2><ul>{left_out}</ul>" if left_out else ""}
</body>
</html>
"""


def page_response(page: str) -> Response:
    """Return the page as a response that runs no script and loads nothing from elsewhere."""
    headers = {**_HEADERS, "Content-Security-Policy": _POLICY}
    return Response(page.encode("utf-8", "replace"), headers=headers, media_type="text/html; charset=utf-8")


def docs_page(app: FastAPI, base: str, icon: str) -> Response:
    """Return the interactive documentation; where its script cannot be had, as without the internet, it says so.

    ``base`` is the prefix that a proxy has taken off, ``icon`` the path of the icon.
    """
    document = f"{base}{app.openapi_url}"
    page = get_swagger_ui_html(openapi_url=document, title=app.title, swagger_favicon_url=f"{base}{icon}")
    html = bytes(page.body).decode()
    place = '<div id="swagger-ui">'
    assert place in html
    told = (
        "<style>@keyframes late { to { visibility: visible } }</style>"
        '<p style="font: 16px/1.5 system-ui, sans-serif; margin: 2rem; visibility: hidden; '
        'animation: late 0s 2s forwards">'
        "This page takes its script from cdn.jsdelivr.net. Where the browser cannot reach it, read the "
        f'<a href="{escape(document)}">OpenAPI document</a> itself.</p>'
    )
    return HTMLResponse(html.replace(place, place + told))


def svg_response(svg: str) -> Response:
    """Return a picture that can do nothing but be seen."""
    headers = {**_HEADERS, "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}
    return Response(svg.encode("utf-8", "replace"), headers=headers, media_type="image/svg+xml")


def _examples(item: Served) -> str:
    """Addresses to try, of a table that can be read."""
    columns = [] if item.resource is None else [field.name for field in item.resource.fields.values() if field.readable]
    shown = [f"{item.path}?limit=5"]
    if columns:
        shown.append(f"{item.path}?sort=-{quote(columns[0], safe='')}&limit=5")
    if len(columns) > 1:
        shown.append(f"{item.path}?fields={','.join(quote(name, safe='') for name in columns[:2])}&count=exact")
    links = " · ".join(f'<a href="{_href(address)}"><code>{escape(address)}</code></a>' for address in shown)
    return f"<p>Try {links}</p>"


def _row(item: Served, counts: Mapping[str, RowCount] | None, docs: str) -> str:
    count = "" if counts is None else str(counts.get(item.name, "?"))
    key = "" if item.resource is None else ", ".join(part.name for part in item.resource.key)
    tag = quote(item.name, safe="")
    note = "" if item.problem is None else '<span class="note">cannot be read</span>'
    return (
        f'<tr><td><a href="{_href(item.path)}">{escape(item.name)}</a></td><td>{escape(item.entry.kind)}</td>'
        f'<td class="rows">{escape(count)}</td><td>{escape(key)}</td>'
        f'<td><a href="{_href(docs)}#/{tag}">docs</a> {note}</td></tr>'
    )


def _href(path: str) -> str:
    """A link relative to the page, so that it holds behind a prefix of a proxy."""
    return escape(f".{path}")
