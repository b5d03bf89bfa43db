"""Request bodies: JSON read once, in strict mode, straight into the model of the operation."""

from __future__ import annotations

import email.message
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..web.problems import Problem, ProblemError
from .resource import Resource
from .route import CRUDRequest
from .schemas import write_values

__all__ = ["Body", "TooManyItemsError"]


class TooManyItemsError(ProblemError):
    """An array is longer than it may be."""


class Body:
    """The body of one operation: its model, and how it is read."""

    def __init__(self, model: type[BaseModel], *, derived: bool, max_items: int) -> None:
        self.model = model
        self.derived = derived
        self.max_items = max_items
        self._one: TypeAdapter[Any] = TypeAdapter(model)
        self._many: TypeAdapter[Any] = TypeAdapter(list[model])  # type: ignore[valid-type]
        # A schema of the user's that does not say what happens to unknown fields refuses them too.
        self._options: dict[str, Any] = {} if "extra" in model.model_config else {"extra": "forbid"}

    async def one(self, request: CRUDRequest, resource: Resource, *, ignore_unknown: bool = False) -> dict[str, Any]:
        """Return the values of a body that is one object; fields that are not there may be left out of it."""
        raw = await _json(request)
        return self._values(resource, self._validate(self._one, raw, ignore_unknown=ignore_unknown))

    async def many(
        self, request: CRUDRequest, resource: Resource, *, ignore_unknown: bool = False
    ) -> tuple[list[dict[str, Any]], bool]:
        """Return the values of an object or of an array of objects, and whether it was an array."""
        raw = await _json(request)
        if not raw.lstrip(b" \t\r\n").startswith(b"["):
            return [self._values(resource, self._validate(self._one, raw, ignore_unknown=ignore_unknown))], False
        items = self._validate(self._many, raw, ignore_unknown=ignore_unknown)
        if len(items) > self.max_items:
            detail = f"The array has more than {self.max_items} items."
            raise TooManyItemsError(Problem(status=422, code="validation_error", detail=detail))
        return [self._values(resource, item) for item in items], True

    def _values(self, resource: Resource, item: BaseModel) -> dict[str, Any]:
        return write_values(resource, item, complete=not self.derived)

    def _validate(self, adapter: TypeAdapter[Any], raw: bytes, *, ignore_unknown: bool) -> Any:
        options: dict[str, Any] = {"extra": "ignore"} if ignore_unknown else self._options
        try:
            return adapter.validate_json(raw, **options)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in found]) from None


async def _json(request: CRUDRequest) -> bytes:
    message = email.message.Message()
    message["content-type"] = request.headers.get("content-type", "")
    kind = message.get_content_type()
    if not (kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))):
        detail = "The body must be JSON: send it with Content-Type: application/json."
        raise ProblemError(Problem(status=415, code="unsupported_media_type", detail=detail))
    raw = await request.read()
    if not raw.strip():
        missing = {"type": "missing", "loc": ("body",), "msg": "Field required"}
        raise RequestValidationError([missing])
    return raw
