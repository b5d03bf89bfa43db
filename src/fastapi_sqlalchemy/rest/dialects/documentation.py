"""What OpenAPI says of the dialects of a router."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from ...web.problems import MEDIA_TYPE
from ..documentation import Brings, ResponseObject
from ..query.errors import listed
from ..query.settings import QuerySettings
from .problems import DialectProblemDetails
from .words import Dialect

__all__ = ["dialect_parameters", "dialect_text", "embed_parameters", "with_dialect_problems"]

_PLACE = {"type": "integer", "minimum": 0, "maximum": 10**9}
_NAMES = {"type": "string", "maxLength": 1000}
_WORDS: dict[str, tuple[dict[str, Any], str]] = {
    "range": (
        {"type": "string", "pattern": r"^\[[0-9]{1,9},[0-9]{1,9}\]$", "examples": ["[0,9]"]},
        "The first and the last row, counted from 0",
    ),
    "embed": ({**_NAMES, "examples": ['["author"]']}, "Relations to include, as JSON"),
    "_start": (_PLACE, "The first row, counted from 0"),
    "_end": (_PLACE, "The row behind the last, counted from 0"),
    "_sort": (_NAMES, "Columns to sort by, separated by commas"),
    "_order": ({**_NAMES, "examples": ["asc,desc"]}, "asc or desc for each column of _sort"),
    "_embed": (_NAMES, "Relations to include"),
}


def dialect_parameters(
    dialects: Sequence[Dialect], settings: QuerySettings, *, embeds: bool
) -> Iterator[dict[str, Any]]:
    """Yield the parameters of a list that only the dialects have; ``sort`` is there already.

    ``embeds`` tells whether there is a relation to include.
    """
    for dialect in dialects:
        for word in dialect.words:
            if word != "sort" and (embeds or word != dialect.embed):
                yield _parameter(word, dialect, f" (at most {settings.max_page_size} rows)" * (word == dialect.page))


def embed_parameters(dialects: Sequence[Dialect]) -> Iterator[dict[str, Any]]:
    """Yield the parameters of one row."""
    for dialect in dialects:
        yield _parameter(dialect.embed, dialect)


def dialect_text(dialects: Sequence[Dialect]) -> str:
    """Return what the description of a list says of them."""
    names = listed(dialect.name for dialect in dialects)
    text = (
        " A list without `limit`, `offset`, `cursor`, `fields`, `include`, `count` and plain `sort` is one of "
        f"{names}: it is counted, and a column may be repeated (any of the values) or end in `_gte`, `_lte`, `_gt`, "
        "`_lt`, `_ne`, `_like`."
    )
    if any("sort" in dialect.words for dialect in dialects):
        text += ' `sort` may be JSON such as `["title","ASC"]`.'
    return text


def with_dialect_problems(responses: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route whose problems are those of a dialect."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{DialectProblemDetails.__name__}"}}}
    found: dict[int | str, dict[str, Any]] = {}
    for status, response in responses.items():
        found[status] = ResponseObject(response)
        if MEDIA_TYPE in response.get("content", ()):
            found[status]["content"] = content
        model: Any = response.get("model")
        if model is not None:
            found[status]["model"] = Annotated[model, Brings(DialectProblemDetails)]
    return found


def _parameter(word: str, dialect: Dialect, more: str = "") -> dict[str, Any]:
    schema, text = _WORDS[word]
    text = f"{text}{more}, as {dialect.name} has it."
    return {"name": word, "in": "query", "required": False, "description": text, "schema": schema}
