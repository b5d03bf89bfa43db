"""Pydantic models derived from a resource: what is read, and what a create, update or replace body may hold.

They check before the driver does, so that every database answers alike: lengths, ranges of the column type, digits,
NUL characters, finite numbers. JSON is read in strict mode: a number is not a string and a string not a number.
"""

from __future__ import annotations

import base64
import datetime as dt
import enum
import keyword
import math
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

import sqlalchemy as sa
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    Strict,
    WithJsonSchema,
    create_model,
)
from pydantic import (
    Field as Constraint,
)
from pydantic_core import PydanticCustomError
from sqlalchemy.dialects import mysql

from .fields import Field
from .narrowing import is_array, is_dict, is_items
from .resource import Resource

__all__ = ["BodyKind", "Member", "body_members", "body_model", "read_members", "read_model", "title_of", "write_values"]

BodyKind: TypeAlias = Literal["Create", "Update", "Replace", "Upsert"]

MAX_JSON_DEPTH = 31  # what the JSON_VALID of MariaDB takes
_TEXT_PATTERN = r"^[^\x00]*$"
_BASE64_PATTERN = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_HEX = re.compile(r"\\x(?:[0-9A-Fa-f]{2})*", re.ASCII)
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
_CLOCK_PATTERN = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
_DECIMAL_DIGITS = 1000


@dataclass(frozen=True, slots=True)
class Member:
    """One field of a row as it is answered, or of a body (``written``): what it takes and whether it may be left out.

    ``default`` tells whether a constant default of the column is that of the member.
    """

    field: Field
    written: bool
    required: bool
    default: bool = True

    @property
    def annotation(self) -> Any:
        """The type that pydantic checks, and documents."""
        kind = _write_type(self.field) if self.written else _read_type(self.field)
        return kind | None if self.nullable else kind

    @property
    def nullable(self) -> bool:
        """Whether it may be null; a key of SQLite that is no row id may be, and cannot be written so."""
        return self.field.nullable or (not self.written and bool(getattr(self.field.column, "nullable", False)))

    @property
    def description(self) -> str:
        """What is said of the field, or nothing."""
        return " ".join(part for part in (self.field.doc, _note(self.field)) if part)

    @property
    def options(self) -> dict[str, Any]:
        """Its ``default``, where it has one that is a constant of JSON."""
        field = self.field
        usable = not self.required and self.default and field.has_default
        return {"default": field.default} if usable and isinstance(field.default, (str, int, float, bool)) else {}


def read_model(resource: Resource, *, name: str | None = None, partial: bool = False) -> type[BaseModel]:
    """Return the model of a row as it is answered; ``partial`` has no required field (``fields=``)."""
    key = ("read model", name, partial)
    if key not in resource.made:
        resource.made[key] = _read_model(resource, name or title_of(resource), partial=partial)
    found: type[BaseModel] = resource.made[key]
    return found


def _read_model(resource: Resource, name: str, *, partial: bool) -> type[BaseModel]:
    definitions = _definitions(read_members(resource, partial=partial))
    for relation in resource.relations.values() if partial else ():
        target: Any = read_model(relation.target)
        annotation = list[target] if relation.to_many else target | None
        options: dict[str, Any] = {} if _usable(relation.name) else {"alias": relation.name}
        definitions[relation.name] = (annotation, Constraint(default_factory=_nothing, **options))
    return _model(name, definitions, ConfigDict(), resource)


def read_members(resource: Resource, *, partial: bool = False) -> list[Member]:
    """Return the fields of a row as it is answered; of a ``partial`` one, none is required."""
    return [Member(field, written=False, required=not partial) for field in resource.readable.values()]


def body_model(
    resource: Resource,
    kind: BodyKind,
    *,
    preset: Iterable[str] = (),
    extra: Iterable[str] = (),
    name: str | None = None,
) -> type[BaseModel]:
    """Return the model of a write body, with the fields of `body_members`."""
    definitions = _definitions(body_members(resource, kind, preset=preset, extra=extra))
    config = ConfigDict(extra="forbid", strict=True)
    return _model(name or f"{title_of(resource)}{kind}", definitions, config, None)


def body_members(
    resource: Resource, kind: BodyKind, *, preset: Iterable[str] = (), extra: Iterable[str] = ()
) -> list[Member]:
    """Return the fields of a write body.

    ``preset`` names fields that are set from elsewhere (ownership) and so are never required; ``extra`` names fields
    that this body may set though they are read-only otherwise (the key of an upsert).
    """
    chosen = dict(resource.updatable if kind in ("Update", "Replace") else resource.creatable)
    for item in extra:
        field = resource.fields.get(item)
        if field is not None and field.readable:
            chosen[item] = field
    free = set(preset)
    return [
        Member(
            field,
            written=True,
            required=kind != "Update" and (field.required or field.name in extra) and field.name not in free,
            default=kind != "Update",
        )
        for field in chosen.values()
    ]


def _definitions(members: Iterable[Member]) -> dict[str, Any]:
    return {member.field.name: (member.annotation, _info(member)) for member in members}


def write_values(resource: Resource, body: BaseModel, *, complete: bool = False) -> dict[str, Any]:
    """Return the values that a body sets, by field name.

    Those that the client gave; with ``complete`` also the defaults of a schema of the user's.
    """
    names = type(body).model_fields if complete else body.model_fields_set
    found: dict[str, Any] = {}
    for name, info in type(body).model_fields.items():
        if name not in names:
            continue
        public = info.alias if info.alias is not None and name not in resource.fields else name
        found[public] = getattr(body, name)
    return found


def _model(name: str, definitions: dict[str, Any], config: ConfigDict, documented: Resource | None) -> type[BaseModel]:
    config["protected_namespaces"] = ()
    config["arbitrary_types_allowed"] = True
    fields: dict[str, Any] = {}
    for number, (public, (annotation, info)) in enumerate(definitions.items()):
        if _usable(public):
            fields[public] = (annotation, info)
        else:
            fields[f"field_{number}_"] = (annotation, info)
    built: type[BaseModel] = create_model(name, __config__=config, **fields)
    if documented is not None and documented.doc:
        built.__doc__ = documented.doc
    return built


def _usable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and name[0] != "_" and not hasattr(BaseModel, name)


def title_of(resource: Resource) -> str:
    """Return the name of a resource as that of a class."""
    name = re.sub(r"\W+", "_", resource.name).strip("_")
    return name or "Row"


def _info(member: Member) -> Any:
    name = member.field.name
    options: dict[str, Any] = {} if _usable(name) else {"alias": name}
    if member.description:
        options["description"] = member.description
    if member.required:
        return Constraint(**options)
    default = member.options or {"default_factory": _nothing}
    return Constraint(**default, **options)


def _nothing() -> None:
    return None


def _note(field: Field) -> str | None:
    if field.python_type is dt.datetime and not field.timezone:
        return "Without offset; an offset given is converted to UTC."
    return None


def _read_type(field: Field) -> Any:
    kind = field.python_type
    if isinstance(field.sql_type, mysql.SET):
        return list[str]
    if kind is object or kind in (dict, list, set):
        return Any
    if kind is bytes:
        return Annotated[str, WithJsonSchema({"type": "string", "contentEncoding": "base64"})]
    if field.choices is not None:
        return Annotated[Any, WithJsonSchema({"enum": list(field.choices)})]
    if kind in (dt.datetime, dt.time) and not field.timezone:
        return Annotated[kind, WithJsonSchema(_naive_schema(kind))]
    if kind is dt.timedelta:
        return Annotated[kind, WithJsonSchema(_DURATION_SCHEMA)]
    if kind in (str, int, float, bool, Decimal, dt.datetime, dt.date, dt.time, uuid.UUID):
        return kind
    return Any


_DURATION_SCHEMA = {
    "type": "string",
    "pattern": r"^-?P(?=.)(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d{1,6})?S)?)?$",
    "examples": ["P1DT2H30M0.5S"],
}
"""JSON Schema's format "duration" knows neither fractions nor a sign."""


def _write_type(field: Field) -> Any:
    return _text_type(field) if field.is_text else _other_type(field, field.sql_type)


def _text_type(field: Field) -> Any:
    return Annotated[str, Constraint(max_length=field.max_length, pattern=_TEXT_PATTERN)]


def _other_type(field: Field, sql_type: sa.types.TypeEngine[Any]) -> Any:
    kind = field.python_type
    if issubclass(kind, enum.Enum):
        return Annotated[
            Any, BeforeValidator(_member_of(kind)), WithJsonSchema({"enum": [member.value for member in kind]})
        ]
    if field.choices is not None:
        return Literal[tuple(field.choices)]
    if kind is bool:
        return bool
    if kind is int:
        return Annotated[int, Constraint(ge=field.minimum, le=field.maximum), Strict(False), BeforeValidator(_integer)]
    if kind is float:
        return Annotated[float, Constraint(allow_inf_nan=False)]
    if kind is Decimal:
        digits = field.precision or _DECIMAL_DIGITS
        bounds = Constraint(allow_inf_nan=False, max_digits=digits, decimal_places=field.scale)
        return Annotated[
            Decimal, bounds, Strict(False), BeforeValidator(_decimal(field)), WithJsonSchema(_decimal_schema(field))
        ]
    if kind is bytes:
        return _bytes_type(field)
    if kind is dt.datetime:
        return _aware_type() if field.timezone else _naive_type()
    if kind is dt.time and not field.timezone:
        return Annotated[
            dt.time,
            Strict(False),
            BeforeValidator(_only(_TIME, "a time such as 13:45:00")),
            AfterValidator(lambda value: value.replace(tzinfo=None)),
            WithJsonSchema(_naive_schema(kind, written=True)),
        ]
    if kind is dt.date:
        return Annotated[dt.date, Strict(False), BeforeValidator(_only(_DATE, "a date such as 2026-01-31"))]
    if kind in (dt.timedelta, dt.time, uuid.UUID):
        return kind
    if kind is list and is_array(sql_type):
        return _array_type(sql_type)
    if isinstance(sql_type, mysql.SET):
        return Annotated[list[Literal[tuple(sql_type.values)]], AfterValidator(set)]  # type: ignore[misc]
    if kind in (dict, list):
        return Annotated[Any, AfterValidator(_checked_json)]
    if isinstance(sql_type, sa.types.NullType):
        return _Typeless
    return Annotated[str, Constraint(pattern=_TEXT_PATTERN)]


def _integer(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is an integer, "5" and true are not (JSON Schema, 6.1.1)."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


def _decimal(field: Field) -> Callable[[Any], Any]:
    scale = field.scale

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise PydanticCustomError("decimal_type", "Input should be a number, or a number in a string")
        if isinstance(value, float) and math.isfinite(value) and scale is not None:
            # 0.07 may come as 0.07000000000000001: the nearest decimal of the column, where a double means it.
            near = round(value, scale)
            return (
                Decimal(repr(near)) if math.isclose(near, value, rel_tol=1e-15, abs_tol=0.0) else Decimal(repr(value))
            )
        return value

    return check


def _decimal_schema(field: Field) -> dict[str, Any]:
    if field.precision is None:
        pattern = r"^-?[0-9]{1,100}(\.[0-9]{1,100})?$"
        return {"anyOf": [{"type": "number"}, {"type": "string", "pattern": pattern}], "examples": ["12.50"]}
    scale = field.scale or 0
    whole = max(field.precision - scale, 0)
    fraction = rf"(\.[0-9]{{1,{scale}}})?" if scale else ""
    pattern = rf"^-?{f'[0-9]{{1,{whole}}}' if whole else '0'}{fraction}$"
    highest = 10 ** min(whole, 12)
    number: dict[str, Any] = {"type": "number", "exclusiveMinimum": -highest, "exclusiveMaximum": highest}
    number["multipleOf"] = 1 if not scale else 10**-scale
    return {"anyOf": [number, {"type": "string", "pattern": pattern}], "examples": ["1" if whole else "0"]}


def _array_type(sql_type: sa.ARRAY[Any]) -> Any:
    from .fields import field_of

    item = field_of("item", (sa.Column("item", sql_type.item_type),), key=False, expose=frozenset({"item"}))
    annotation: Any = list[_write_type(item) | None]  # type: ignore[misc]
    for _ in range((sql_type.dimensions or 1) - 1):
        annotation = list[annotation]
    return annotation


def _bytes_type(field: Field) -> Any:
    def decode(value: Any) -> bytes:
        if isinstance(value, str) and _HEX.fullmatch(value):  # PostgreSQL's own form
            value = _encode(bytes.fromhex(value[2:]))
        if not isinstance(value, str) or not re.fullmatch(_BASE64_PATTERN, value.replace("-", "+").replace("_", "/")):
            raise ValueError("must be a string in base64")
        raw = base64.b64decode(value.replace("-", "+").replace("_", "/"))
        if field.max_length is not None and len(raw) > field.max_length:
            raise ValueError(f"must have at most {field.max_length} bytes")
        return raw

    schema: dict[str, Any] = {"type": "string", "contentEncoding": "base64", "pattern": _BASE64_PATTERN}
    if field.max_length is not None:
        schema["maxLength"] = field.max_length // 3 * 4
    return Annotated[bytes, BeforeValidator(decode), PlainSerializer(_encode), WithJsonSchema(schema)]


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _naive_type() -> Any:
    return Annotated[
        dt.datetime,
        Strict(False),
        BeforeValidator(_only(_DATETIME, "a date and time such as 2026-01-31T13:45:00")),
        AfterValidator(_without_offset),
        WithJsonSchema(_naive_schema(dt.datetime, written=True)),
    ]


def _aware_type() -> Any:
    return Annotated[
        dt.datetime,
        Strict(False),
        BeforeValidator(_only(_DATETIME, "a date and time such as 2026-01-31T13:45:00+01:00")),
        AfterValidator(_with_offset),
    ]


def _naive_schema(kind: type[Any], *, written: bool = False) -> dict[str, Any]:
    """JSON Schema has no format for a moment without offset; what is written keeps to days that every month has."""
    if kind is dt.time:
        return {"type": "string", "pattern": f"^{_CLOCK_PATTERN}$", "examples": ["13:45:00"]}
    day = r"[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])" if written else r"\d{4}-\d\d-\d\d"
    return {"type": "string", "pattern": f"^{day}T{_CLOCK_PATTERN}$", "examples": ["2026-01-28T13:45:00"]}


def _without_offset(value: dt.datetime) -> dt.datetime:
    return value if value.tzinfo is None else _to_utc(value).replace(tzinfo=None)


def _with_offset(value: dt.datetime) -> dt.datetime:
    if value.tzinfo is None:
        raise ValueError("must have an offset, such as Z or +01:00")
    return _to_utc(value)


def _to_utc(value: dt.datetime) -> dt.datetime:
    try:
        return value.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


def _only(pattern: re.Pattern[str], wanted: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"must be {wanted}")
        return value

    return check


def _fraction(value: Any) -> Any:
    """An integer past 64 bits is out of range, and no fraction."""
    if not isinstance(value, float):
        raise PydanticCustomError("float_type", "Input should be a valid number")
    return value


_Typeless = (
    Annotated[str, Constraint(pattern=_TEXT_PATTERN)]
    | Annotated[int, Constraint(ge=-(2**63), le=2**63 - 1)]
    | Annotated[float, Constraint(allow_inf_nan=False), BeforeValidator(_fraction)]
)
"""What a column without a type takes."""


def _member_of(kind: type[enum.Enum]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        for member in kind:
            if member.value == value and type(member.value) is type(value):
                return member
        raise ValueError(f"must be one of {', '.join(repr(member.value) for member in kind)}")

    return check


def _checked_json(value: Any) -> Any:
    """Refuse what some database cannot store in a JSON column."""
    _walk(value, 0)
    return value


def _walk(value: Any, depth: int) -> None:
    if depth >= MAX_JSON_DEPTH and isinstance(value, (dict, list)):
        raise ValueError(f"must not be nested deeper than {MAX_JSON_DEPTH}")
    if is_dict(value):
        for key, item in value.items():
            _walk(key, depth)
            _walk(item, depth + 1)
    elif is_items(value):
        for item in value:
            _walk(item, depth + 1)
    elif isinstance(value, str) and "\x00" in value:
        raise ValueError("must not hold a NUL character")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError("must be a number of at most 64 bits")
