"""Whether a document is OpenAPI, by openapi-spec-validator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import orjson
from openapi_schema_validator import OAS31Validator
from openapi_schema_validator._specifications import REGISTRY
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator.validation import keywords

__all__ = ["validate"]

_SCHEMAS = jsonschema_rs.validator_for(
    OAS31Validator.META_SCHEMA,
    registry=jsonschema_rs.Registry([(uri, REGISTRY.contents(uri)) for uri in REGISTRY]),
    validate_formats=True,
)


def validate(document: Any) -> None:
    """Raise what the validators raise; what stands in a document many times is looked through once."""
    seen: dict[bytes, Any] = {}
    text = json.dumps(document)
    _Document(json.loads(text, object_hook=lambda part: seen.setdefault(orjson.dumps(part), part))).validate()


class _Once(keywords.KeywordValidator):
    """Looks once at each object; equal parts of a document are one object."""

    def __init__(self, registry: Any) -> None:
        super().__init__(registry)
        self._looked_at: set[int] = set()

    def __call__(self, *arguments: Any) -> Iterator[Any]:
        part = id(arguments[-1].read_value())
        if part not in self._looked_at:
            self._looked_at.add(part)
            yield from super().__call__(*arguments)  # type: ignore[misc]


class _Parameter(_Once, keywords.ParameterValidator):
    pass


class _Response(_Once, keywords.OpenAPIV3ResponseValidator):
    pass


class _Schema(keywords.OpenAPIV31SchemaValidator):
    def _get_schema_checker(self, schema: Any, schema_value: Any) -> Callable[[Any], None]:
        return _SCHEMAS.validate


class _Document(OpenAPIV31SpecValidator):
    keyword_validators = {
        **OpenAPIV31SpecValidator.keyword_validators,
        "parameter": _Parameter,
        "response": _Response,
        "schema": _Schema,
    }
