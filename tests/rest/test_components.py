"""The components of the document are the JSON schemas of the models that check the same rows and bodies."""

from __future__ import annotations

import enum
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi._compat.v2 import ModelField
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import relationship

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from fastapi_sqlalchemy.rest.components import body_component, row_component, selection_component
from fastapi_sqlalchemy.rest.documentation import component_of
from fastapi_sqlalchemy.rest.resource import Resource, ResourceRegistry, resource_for
from fastapi_sqlalchemy.rest.schemas import BodyKind, body_model, read_model

Mode = Literal["validation", "serialization"]


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


class Whole(sa.types.TypeDecorator[int]):
    impl = sa.Integer
    cache_ok = True


TYPES: list[Any] = [
    *(sa.Text(), sa.String(5), sa.String(0), sa.Unicode(9), sa.Integer(), sa.BigInteger(), sa.SmallInteger()),
    *(sa.Boolean(), sa.Float(), sa.Double(), sa.Numeric(), sa.Numeric(10, 2), sa.Numeric(5), sa.Numeric(2, 2)),
    *(sa.Numeric(10, 2, asdecimal=False), sa.Date(), sa.DateTime(), sa.DateTime(timezone=True), sa.Time()),
    *(sa.Time(timezone=True), sa.Interval(), sa.LargeBinary(), sa.LargeBinary(5), sa.Uuid(), sa.Uuid(as_uuid=False)),
    *(sa.Enum(Color), sa.Enum("x", "y", name="letter"), sa.JSON(), sa.PickleType(), Whole(), sa.types.NullType()),
    *(
        postgresql.ARRAY(sa.Integer),
        postgresql.ARRAY(sa.String(3), dimensions=2),
        postgresql.INET(),
        mysql.SET("a", "b"),
    ),
]


def odd_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("model_x y", sa.Integer, comment="odd"),
        sa.Column("class", sa.String(3), nullable=False, doc="Which one"),
        sa.Column("_under", sa.String(3)),
        sa.Column("json", sa.String(3), default="j"),
        sa.Column("CamelCase_2", sa.DateTime, nullable=False, comment="when"),
        sa.Column("scale", sa.Numeric(4, 1), default=1.5, nullable=False),
        sa.Column("shown", sa.Boolean, default=True, nullable=False),
        sa.Column("made", sa.Integer, default=lambda: 3, nullable=False),
        sa.Column("color", sa.Enum(Color), default=Color.RED),
        sa.Column("bytes", sa.LargeBinary, default="YQ=="),
        sa.Column("server", sa.String(4), server_default="q", nullable=False),
        sa.Column("computed", sa.Integer, sa.Computed("id + 1")),
        sa.Column("token", sa.String(3)),
    ]


def resources() -> list[Resource]:
    metadata = sa.MetaData()
    registry = ResourceRegistry()
    found: list[Resource] = []
    for nullable in (True, False):
        columns: list[Any] = [sa.Column(f"c{number}", type_, nullable=nullable) for number, type_ in enumerate(TYPES)]
        key: Any = sa.Column("id", sa.Integer, primary_key=True)
        table = sa.Table(
            f"wide {nullable}",
            metadata,
            key,
            *columns,
            *odd_columns(),
            comment="About\n    this." if nullable else None,
        )
        found.append(resource_for(table, registry=registry))
    child: list[Any] = [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("wide_id", sa.ForeignKey("wide True.id")),
        sa.Column("child_id", sa.ForeignKey("child.id"), nullable=False),
    ]
    return [*found, resource_for(sa.Table("child", metadata, *child), registry=registry)]


def document(schema: Any, mode: Mode) -> dict[str, Any]:
    """Every component that the schema leads to, by name."""
    found: Any = GenerateJsonSchema().generate_definitions([("it", mode, schema)])
    definitions: dict[str, Any] = found[1]
    return definitions


@pytest.mark.parametrize("mode", ["validation", "serialization"])
@pytest.mark.parametrize("resource", resources(), ids=lambda item: item.name)
def test_a_component_equals_the_schema_of_the_model(resource: Resource, mode: Mode) -> None:
    name = f"{read_model(resource).__name__}Selection"
    pairs: list[tuple[Any, type[BaseModel]]] = [
        (row_component(resource), read_model(resource)),
        (selection_component(resource), read_model(resource, name=name, partial=True)),
    ]
    for kind in get_args(BodyKind):
        for preset, extra in itertools.product(((), ("wide_id", "class")), ((), ("id",))):
            pair = (
                body_component(resource, kind, preset=preset, extra=extra),
                body_model(resource, kind, preset=preset, extra=extra),
            )
            pairs.append(pair)
    for component, model in pairs:
        assert document(component.core_schema, mode) == document(component_of(model), mode)


def build(number: int) -> tuple[FastAPI, SQLAlchemy]:
    """An application with so many models and their routers."""
    db = SQLAlchemy("sqlite://")
    app = FastAPI()
    models: list[type[Any]] = []
    for index in range(number):
        columns: dict[str, Any] = {
            "__tablename__": f"table_{index}",
            "id": sa.Column(sa.Integer, primary_key=True),
            "name": sa.Column(sa.String(50), unique=True),
            "size": sa.Column(sa.Integer, nullable=False),
            "next_id": sa.Column(sa.ForeignKey(f"table_{max(0, index - 1)}.id")),
            "next": relationship(f"Model{max(0, index - 1)}", remote_side=f"Model{max(0, index - 1)}.id"),
        }
        models.append(type(f"Model{index}", (db.Base,), columns))
    for model in models:
        app.include_router(CRUDRouter(model, db=db))
    return app, db


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How many fields of FastAPI, type adapters and models of pydantic are made."""
    found = {"fields": 0, "adapters": 0, "models": 0}

    def counted(kind: Any, name: str, method: str) -> None:
        original: Callable[..., Any] = getattr(kind, method)

        def count(*args: Any, **options: Any) -> Any:
            found[name] += 1
            return original(*args, **options)

        monkeypatch.setattr(kind, method, count)

    counted(ModelField, "fields", "__post_init__")
    counted(TypeAdapter, "adapters", "_init_core_attrs")
    counted(type(BaseModel), "models", "__init__")
    yield found


def test_a_document_makes_no_model_for_a_table(made: dict[str, int]) -> None:
    counts: list[dict[str, int]] = []
    build(1)[0].openapi()
    for number in (10, 20):
        for name in made:
            made[name] = 0
        app, _ = build(number)
        assert len(app.openapi()["paths"]) == 3 * number
        counts.append(dict(made))
    small, large = counts
    assert (small["models"], large["models"]) == (0, 0)
    assert small["fields"] <= 22 * 10
    assert small["adapters"] <= 30 * 10
    assert large["fields"] == 2 * small["fields"]
    assert large["adapters"] <= 2 * small["adapters"]


def test_the_work_of_routers_and_document_grows_with_the_models() -> None:
    build(1)[0].openapi()
    calls = [_calls(lambda number=number: build(number)[0].openapi()) for number in (10, 20)]
    assert calls[1] <= 2.1 * calls[0]


def _calls(work: Callable[[], Any]) -> int:
    """How many functions of Python are called."""
    found = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal found
        found += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found
