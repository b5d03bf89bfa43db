"""The start page of the demo: one file, no outside assets."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

__all__ = ["start_page"]

LINKS = {
    "Generated from models": (
        ("/users?include=items", "users with their items; no password in sight"),
        ("/items?price__gt=20&sort=-price&count=exact", "items above 20, the dearest first, counted"),
        ("/items?owner.name=Ada&fields=id,title", "items of Ada, two columns of them"),
        ("/items/-/aggregate?group_by=owner_id&sum=price", "what each owner's items are worth"),
        ("/items?colour=red", "a column that does not exist: a 422 that says so"),
    ),
    "Written by hand": (
        ("/things", "all things, by an async session"),
        ("/things/999", "a thing that is not there: 404"),
    ),
    "Around it": (
        ("/docs", "every route, to try out"),
        ("/openapi.json", "the same for machines"),
        ("/health/ready", "does the database answer?"),
    ),
}

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>FastAPI-SQLAlchemy demo</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; --line: #8884; --link: light-dark(#0b5cad, #7db7ff) }}
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2.5rem auto; padding: 0 1rem }}
h1 {{ margin-bottom: 0 }} h2 {{ font-size: 1.05rem; margin: 2rem 0 .5rem }}
a {{ color: var(--link); text-decoration: none }} a:hover, a:focus {{ text-decoration: underline }}
code, pre {{ font: .9em/1.5 ui-monospace, monospace }}
ul {{ list-style: none; padding: 0; margin: 0; border-top: 1px solid var(--line) }}
li {{ padding: .5rem 0; border-bottom: 1px solid var(--line) }} li span {{ display: block; opacity: .75 }}
pre {{ border: 1px solid var(--line); border-radius: 6px; padding: .8rem; overflow-x: auto }}
.button {{ display: inline-block; border: 1px solid; border-radius: 6px; padding: .4rem .9rem; margin: 1rem 0 0 }}
</style>
<h1>FastAPI-SQLAlchemy demo</h1>
<p>One application, one {database} database, one session per request. It holds {rows}.</p>
<a class="button" href="/docs">Open the docs</a>
{sections}
<h2>Change something</h2>
<pre>curl -X POST localhost:8000/things \\
  -H 'content-type: application/json' -d '{{"text": "mine"}}'
curl -X PATCH localhost:8000/items/1 \\
  -H 'content-type: application/json' -d '{{"price": "14.00"}}'</pre>
</html>
"""


def start_page(*, database: str, rows: Mapping[str, int], host: str = "127.0.0.1:8000") -> str:
    """The page; ``rows`` are the number of rows by table, ``host`` is where the client found it."""
    sections = "".join(
        f"<h2>{escape(title)}</h2>\n<ul>\n"
        + "".join(
            f'<li><a href="{escape(path)}"><code>{escape(path)}</code></a><span>{escape(text)}</span></li>\n'
            for path, text in links
        )
        + "</ul>\n"
        for title, links in LINKS.items()
    )
    counted = ", ".join(f"{number} {name}{'' if number == 1 else 's'}" for name, number in rows.items())
    page = PAGE.format(database=escape(database), rows=escape(counted), sections=sections)
    return page.replace("localhost:8000", escape(host))
