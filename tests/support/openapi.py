"""Whether a document is OpenAPI, by openapi-spec-validator."""

from __future__ import annotations

import functools
import json
from typing import Any

import openapi_spec_validator
import pytest
from openapi_schema_validator import OAS31Validator

__all__ = ["validate"]


def validate(document: Any) -> None:
    """Raise what the validator raises; a schema that stands in a document many times is looked through once."""

    def check(schema: Any, **options: Any) -> None:
        _check(json.dumps(schema), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OAS31Validator, "check_schema", check)
        openapi_spec_validator.validate(document)


_check_schema = OAS31Validator.check_schema


@functools.cache
def _check(schema: str, **options: Any) -> None:
    _check_schema(json.loads(schema), **options)
