"""Models of every shape in the admin, and an admin wherever its application is mounted."""

from __future__ import annotations

import datetime as dt
import html
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.admin import Admin
from fastapi_sqlalchemy.models.mixins import SoftDeleteMixin
from tests.admin.conftest import Desk
from tests.admin.test_rows import cells
from tests.support.client import TestClient


def declare(db: SQLAlchemy) -> dict[str, Any]:
    """Inheritance, versions, soft deletion, references to itself, by two columns, one to one and many to many."""

    class Animal(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(sa.String(20))
        name: Mapped[str] = mapped_column(sa.String(50))
        parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("animal.id"))
        parent: Mapped[Any] = relationship("Animal", remote_side="Animal.id")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(sa.ForeignKey(Animal.id), primary_key=True)
        breed: Mapped[str | None] = mapped_column(sa.String(20))
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Document(db.Base):
        key: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
        version: Mapped[int] = mapped_column()
        title: Mapped[str] = mapped_column(sa.String(50))
        flag: Mapped[bool | None]
        content: Mapped[bytes | None]
        length: Mapped[dt.timedelta | None]
        at: Mapped[dt.datetime | None] = mapped_column(sa.DateTime(timezone=True))
        __mapper_args__ = {"version_id_col": version}

    class Draft(SoftDeleteMixin, db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(50))

    class Pair(db.Base):
        a: Mapped[int] = mapped_column(primary_key=True)
        b: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
        label: Mapped[str] = mapped_column(sa.String(20))

    class Child(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        pa: Mapped[int | None]
        pb: Mapped[str | None] = mapped_column(sa.String(20))
        pair: Mapped[Any] = relationship(Pair)
        __table_args__ = (sa.ForeignKeyConstraint(["pa", "pb"], ["pair.a", "pair.b"]),)

    class Tag(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20))

    class Profile(db.Base):
        child_id: Mapped[int] = mapped_column(sa.ForeignKey(Child.id), primary_key=True)
        bio: Mapped[str] = mapped_column(sa.String(20))
        child: Mapped[Any] = relationship(Child)

    class Member(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        password_hash: Mapped[str] = mapped_column(sa.String(20))

    sa.Table(
        "child_tag",
        db.metadata,
        sa.Column("child_id", sa.ForeignKey(Child.id), primary_key=True),
        sa.Column("tag_id", sa.ForeignKey(Tag.id), primary_key=True),
    )
    return {item.__name__: item for item in (Animal, Dog, Document, Draft, Pair, Child, Tag, Profile, Member)}


@pytest.fixture
def shapes(sqlite_url: str, tmp_path: Path) -> Iterator[tuple[Desk, dict[str, Any]]]:
    db = SQLAlchemy(sqlite_url, commit_on_exit=True)
    models = declare(db)
    inner, app = FastAPI(lifespan=db.lifespan), FastAPI()
    inner.add_middleware(DBSessionMiddleware, db=db)
    admin = Admin(inner, db=db, write=True, auth=False, store=str(tmp_path / "store.db"))
    app.mount("/inner", inner)
    db.create_all()
    with db(commit_on_exit=True):
        db.session.add(models["Animal"](id=1, name="Eve"))
        db.session.add(models["Pair"](a=1, b="x,y", label="The pair"))
        db.session.add(models["Tag"](id=1, name="red"))
        db.session.add(models["Draft"](id=1, name="first"))
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 1)) as client:
        desk = Desk(None, admin, client, "/inner/admin")  # type: ignore[arg-type]
        desk.get("/")
        yield desk, models
    db.dispose()
    admin.store.db.dispose()


def made(desk: Desk, path: str, **values: str) -> None:
    answer = desk.post(f"/{path}/create", values, follow_redirects=False)
    assert answer.status_code == 303, re.findall("invalid-feedback[^<]*<", answer.text)
    assert answer.headers["location"].startswith("http://127.0.0.1:8000/inner/admin/")


def test_models_of_every_shape_are_shown_and_changed(shapes: tuple[Desk, dict[str, Any]]) -> None:
    desk, models = shapes
    made(desk, "dog", name="Rex", breed="Collie", parent="1")
    assert cells(desk.get("/animal/list"), "kind") == ["animal", "dog"]
    assert cells(desk.get("/dog/list"), "parent") == ["Eve"]
    made(desk, "document", title="t", flag="true", content="AAE=", length="PT1H", at="2026-01-01T00:00:00+02:00")
    page = desk.get("/document/list")
    assert cells(page, "content") == ["2 bytes"]
    assert cells(page, "at") == ["2025-12-31 22:00:00+00:00"]
    (key,) = re.findall(r'data-sa-pk="([^"]+)"', page.text)
    form = desk.form(f"/document/edit?pk={key}")
    values = {**form, "title": "u", "flag": "", "length": "PT1H", "at": "2025-12-31T22:00:00+00:00"}
    assert desk.post(f"/document/edit?pk={key}", values, follow_redirects=False).status_code == 303
    assert cells(desk.get("/document/list"), "version") == ["2"]
    assert desk.post(f"/document/edit?pk={key}", {**values, "title": "v"}).status_code == 422
    made(desk, "child", pa="1", pb="x,y")
    assert cells(desk.get("/child/list"), "pair") == ["The pair"]
    assert len(cells(desk.get("/child/list?filter=pair__icontains=pair"), "id")) == 1
    assert desk.get("/pair/detail?pk=1,x~2Cy").status_code == 200
    made(desk, "profile", child="1", bio="b")
    assert cells(desk.get("/profile/list"), "child") == ["Child 1"]
    made(desk, "child-tag", child="1", tag="1")
    assert cells(desk.get("/child-tag/list"), "tag") == ["red"]
    assert desk.act("/_api/draft/row-action?name=delete&pk=1").status_code == 200
    assert cells(desk.get("/draft/list"), "id") == []
    with desk.admin.db():
        kept = sa.select(sa.func.count()).select_from(models["Draft"].__table__)
        assert desk.admin.db.session.scalar(kept) == 1
    assert desk.get("/member/list").status_code == 200
    assert desk.get("/member/create").status_code == 403
    for address in re.findall(r'\s(?:href|src|action)="([^"#]+)"', html.unescape(desk.get("/dog/detail?pk=2").text)):
        assert address.startswith("http://127.0.0.1:8000/inner/admin/")
        assert desk.client.get(address).status_code in (200, 405)
