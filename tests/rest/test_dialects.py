"""The dialects of other clients on a router: how a request is told apart, and that every rule of a router holds."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, computed_field
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.models.mixins import SoftDeleteMixin
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient
from tests.support.systems import running

JSON = {"Content-Type": "application/json"}
BOTH = ("simple-rest", "json-server")


class Office:
    """An application whose routers speak both dialects, and those that speak one of them or none."""

    def __init__(self, url: str) -> None:
        self.db = SQLAlchemy(url)
        self.app = FastAPI()
        self.updates: list[dict[str, Any]] = []
        self.models = self._declare()
        self._route()
        self.client = TestClient(self.app)

    def _declare(self) -> dict[str, Any]:
        base: Any = self.db.Base

        class Staff(base):
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(sa.String(40))
            hashed_password: Mapped[str | None] = mapped_column(sa.String(60))
            badge: Mapped[str | None] = mapped_column(sa.ForeignKey("badge.code"))

        class Badge(base):
            code: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
            level: Mapped[int]
            staff: Mapped[list[Staff]] = relationship()

        class Memo(base):
            id: Mapped[int] = mapped_column(primary_key=True)
            owner_id: Mapped[int]
            text: Mapped[str] = mapped_column(sa.String(80))

        class Odd(base):
            """Columns that are called like words of a dialect."""

            id: Mapped[int] = mapped_column(primary_key=True)
            range: Mapped[int]
            sort: Mapped[str] = mapped_column(sa.String(20))
            limit: Mapped[int]
            start: Mapped[int] = mapped_column("_start")
            size: Mapped[int]
            size_gte: Mapped[int]

        class Ticket(SoftDeleteMixin, base):
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str] = mapped_column(sa.String(40))

        class Token(base):
            uid: Mapped[uuid.UUID] = mapped_column(primary_key=True)
            note: Mapped[str] = mapped_column(sa.String(40))

        class Day(base):
            day: Mapped[dt.date] = mapped_column(primary_key=True)
            note: Mapped[str] = mapped_column(sa.String(40))

        return {model.__name__: model for model in (Staff, Badge, Memo, Odd, Ticket, Token, Day)}

    def _route(self) -> None:
        memo, updates = self.models["Memo"], self.updates

        def owner(x_user: int = Header()) -> Any:
            return memo.owner_id == x_user

        def admin(x_admin: str = Header(default="")) -> None:
            if not x_admin:
                raise HTTPException(403, "Admins only.")

        class Hooks:
            def before_update(self, session: Any, values: dict[str, Any], row: Any) -> None:
                updates.append(dict(values))

            def after_read(self, session: Any, rows: Any) -> None:
                for row in rows:
                    row["level"] += 1000

        class Shown(BaseModel):
            id: int
            title: str

            @computed_field
            def shout(self) -> str:
                return self.title.upper()

        class Change(BaseModel):
            title: str = ""

        def add(name: str, prefix: str, dialects: Any = BOTH, **options: Any) -> None:
            self.app.include_router(
                CRUDRouter(self.models[name], db=self.db, prefix=prefix, dialects=dialects, **options)
            )

        add("Staff", "/staff", max_page_size=20)
        add("Staff", "/plain-staff", ())
        add("Badge", "/badges", hooks=Hooks(), operation_dependencies={"update": [Depends(admin)]})
        add("Memo", "/memos", scope_query=owner)
        add("Odd", "/odd")
        add("Odd", "/odd-simple", ["simple-rest"])
        add("Odd", "/odd-server", ["json-server"])
        add("Ticket", "/tickets", read_schema=Shown, update_schema=Change, operations=("list", "update", "delete"))
        add("Token", "/tokens")
        add("Day", "/days", require_if_match=True)

    def insert(self, model: str, *rows: dict[str, Any]) -> None:
        with self.db.engine.begin() as connection:
            table = self.models[model].__table__
            connection.execute(sa.insert(table), list(rows))
            if connection.dialect.name == "postgresql" and isinstance(rows[0].get("id"), int):
                connection.execute(sa.text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), 1000)"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def running_office(request: pytest.FixtureRequest, databases: dict[str, str]) -> Iterator[Office]:
    if request.param not in databases:
        pytest.skip(f"no {request.param} server takes part")
    with running(Office(databases[request.param])) as office:
        yield office


@pytest.fixture
def office(running_office: Office) -> Office:
    """The office with a few rows."""
    with running_office.db.engine.begin() as connection:
        for table in reversed(running_office.db.metadata.sorted_tables):
            connection.execute(table.delete())
    running_office.insert("Badge", *({"code": f"b{number}", "level": number} for number in range(1, 5)))
    running_office.insert(
        "Staff",
        *(
            {"id": number, "name": f"name {number:02}", "hashed_password": "xyz", "badge": f"b{number % 4 + 1}"}
            for number in range(1, 31)
        ),
    )
    running_office.insert("Memo", *({"id": n, "owner_id": 1 + n % 2, "text": f"memo {n}"} for n in range(1, 7)))
    running_office.updates.clear()
    return running_office


def ids(response: Any) -> list[Any]:
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()]


def refusal(response: Any, status: int = 422) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    return found


def test_a_request_with_a_parameter_of_the_router_is_in_its_own_grammar(office: Office) -> None:
    for query in ("limit=3", "offset=2", "cursor=", "fields=id,name", "count=none", "sort=-name"):
        own, plain = (office.client.get(f"{path}?{query}") for path in ("/staff", "/plain-staff"))
        assert (own.status_code, own.json()[:10]) == (200, plain.json()[:10])
        assert own.headers["content-range"].endswith("/*") and "x-total-count" not in own.headers
    for query in ("limit=3&_start=0", "limit=3&range=[0,1]", "sort=name&_sort=name", "count=exact&name_like=x"):
        name = query.partition("&")[2].partition("=")[0]
        assert refusal(office.client.get(f"/staff?{query}"))["fields"] == [name]
    assert "given 2 times" in refusal(office.client.get("/staff?limit=3&id=1&id=2"))["detail"]


def test_every_other_list_is_of_a_dialect_and_has_its_defaults(office: Office) -> None:
    for query, total in (("", 30), ("badge=b1", 7), ('filter={"badge":"b1"}', 7), ("q=name", 30), ("id__gt=25", 5)):
        response = office.client.get(f"/staff?{query}")
        assert response.headers["x-total-count"] == str(total), query
        assert len(response.json()) == min(total, 20)  # max_page_size
        assert response.headers["access-control-expose-headers"] == "Content-Range, X-Total-Count, Link"


def test_links_of_a_dialects_page_lead_on_in_the_routers_own_grammar(office: Office) -> None:
    seen = []
    address = '/staff?sort=["badge","DESC"]&range=[0,7]&filter={"badge":["b1","b2"]}'
    while True:
        response = office.client.get(address)
        seen += ids(response)
        assert response.headers["x-total-count"] == "15"
        if "next" not in response.links:
            break
        address = response.links["next"]["url"]
    assert len(seen) == len(set(seen)) == 15


def test_the_two_dialects_do_not_mix(office: Office) -> None:
    problem = refusal(office.client.get("/staff?_start=0&range=[0,1]"))
    assert "simple-rest" in problem["detail"] and "json-server" in problem["detail"]
    assert refusal(office.client.get("/odd-simple?_end=2"))["fields"] == ["_end"]
    assert refusal(office.client.get('/odd-server?sort=["id","ASC"]'))["fields"] == ["sort"]
    assert refusal(office.client.get("/plain-staff?_end=2"))["fields"] == ["_end"]


def test_a_column_called_like_a_word_has_its_own_ways(office: Office) -> None:
    rows = [
        {"id": n, "range": n, "sort": "s", "limit": n, "_start": n % 2, "size": n, "size_gte": 10 - n}
        for n in range(1, 6)
    ]
    office.insert("Odd", *rows)
    get = office.client.get
    # the word wins; with .eq, or in a filter of JSON, it is the column
    assert ids(get("/odd?range=[1,2]")) == [2, 3]
    assert refusal(get("/odd?range=2"))["fields"] == ["range"]
    assert ids(get("/odd?range.eq=2")) == ids(get('/odd?filter={"range":2}')) == [2]
    assert ids(get("/odd?range__in=2,3")) == [2, 3]
    assert ids(get("/odd?sort.eq=s&_end=2")) == [1, 2]
    assert ids(get('/odd?filter={"sort":"s","limit":4}')) == [4]
    assert ids(get("/odd?limit.eq=4")) == [4]
    assert ids(get('/odd?sort=["range","DESC"]&range=[0,1]')) == ids(get("/odd?_sort=sort,range&_order=,DESC&_end=2"))
    # in the router's own grammar and on a router without the dialect it is the column alone
    assert ids(get("/odd?range=2&count=none")) == ids(get("/odd-server?range=2")) == [2]
    # a column that is called like another with an operator keeps its name
    assert ids(get("/odd?size_gte=9")) == [1]
    assert ids(get("/odd?size__gte=4")) == ids(get('/odd?filter={"size__gte":4}')) == [4, 5]
    assert ids(get('/odd?filter={"size_lte":2,"size_gte":8}')) == [2]


MALFORMED = [
    ("range=", "range"),
    ("range=[0]", "range"),
    ("range=[0,-1]", "range"),
    ("range=[5,2]", "range"),
    ("range=[0.5,2]", "range"),
    ("range=[NaN,2]", "range"),
    ("range=[0," + "9" * 5000 + "]", "range"),
    ("range=" + "[" * 50_000, "range"),
    ("range=[0,1]&range=[0,2]", "range"),
    ("range=[0,20]", "range"),
    ("range=[2000000000,2000000001]", "range"),
    ('sort=["name"]', "sort"),
    ('sort=["name","UP"]', "sort"),
    ('sort=["nope","ASC"]', "sort"),
    ('sort=["name,id","ASC"]', "sort"),
    ('sort=["hashed_password","ASC"]', "sort"),
    ("sort=[{},[]]", "sort"),
    ('sort=["\\ud800","ASC"]', "sort"),
    ('embed="nope"', "embed"),
    ("embed=[1", "embed"),
    ("_start=-1&_end=2", "_start"),
    ("_start=2&_end=2", "_end"),
    ("_end=21", "_end"),
    ("_end=x", "_end"),
    ("_end=%D9%A3", "_end"),
    ("_sort=nope", "_sort"),
    ("_sort=name&_order=up", "_order"),
    ("_sort=name&_order=asc,desc", "_order"),
    ("_sort=hashed_password", "_sort"),
    ("_embed=nope", "_embed"),
    ("nope=1", "nope"),
    ("nope_gte=1", "nope_gte"),
    ("nope=1&nope=2", "nope"),
    ("hashed_password=xyz", "hashed_password"),
    ("hashed_password_like=x", "hashed_password_like"),
    ("id_like=1", "id_like"),
    ("id=x&id=1", "id"),
    ("&".join(f"id={n}" for n in range(501)), "id"),
    ("filter=[1]", "filter"),
    ('filter={"id":[]}', "filter.id"),
    ("filter=" + '{"a":' * 5000, "filter"),
    ('filter={"hashed_password_like":"x"}', "filter.hashed_password_like"),
    ('filter={"id":' + "9" * 5000 + "}", "filter.id"),
    ("name=%00", "name"),
    ("name_like=%00", "name_like"),
]


def test_what_cannot_be_is_a_422_that_names_what_was_given(office: Office) -> None:
    for query, field in MALFORMED:
        problem = refusal(office.client.get(f"/staff?{query}"))
        assert problem["fields"] == ([field] if field else []), (query[:80], problem)
        assert problem["message"] == problem["detail"]


def test_values_keep_their_commas_and_backslashes(office: Office) -> None:
    office.insert("Ticket", *({"id": n, "title": title} for n, title in enumerate(("a,b", "a\\,b", "a", "b"), 1)))
    get = office.client.get
    assert ids(get("/tickets", params={"title": ["a,b", "b"]})) == [1, 4]
    assert ids(get("/tickets", params={"title": ["a\\,b", "a"]})) == [2, 3]
    assert ids(get("/tickets", params={"title_ne": ["a,b", "b"]})) == [2, 3]
    assert ids(get("/tickets", params={"filter": json.dumps({"title": ["a,b", "b"]})})) == [1, 4]
    assert ids(get("/tickets", params={"title_like": "A,"})) == [1]


def test_a_put_changes_the_fields_given_and_is_an_update_for_hooks_and_dependencies(office: Office) -> None:
    admin = {"X-Admin": "yes"}
    assert refusal(office.client.put("/badges/b1", json={"level": 7}), 403)["message"] == "Admins only."
    for method in ("PUT", "PATCH"):
        whole = {"id": "b1", "code": "b1", "level": 7, "staff": [{"id": 1}]}
        response = office.client.request(method, "/badges/b1", json=whole, headers=admin)
        assert response.json() == {"id": "b1", "code": "b1", "level": 7}
    assert office.updates == [{"level": 7}, {"level": 7}]
    assert office.client.put("/badges/b9", json={"level": 7}, headers=admin).status_code == 404
    moved = office.client.put("/badges/b1", json={"code": "b9", "level": 7}, headers=admin)
    assert refusal(moved)["fields"] == ["code"]
    # without dialects it is what it was
    assert refusal(office.client.put("/plain-staff/1", json={"badge": None}))["errors"][0]["loc"] == ["body", "name"]
    replaced = office.client.put("/plain-staff/1", json={"name": "new"})
    assert replaced.json() == {"id": 1, "name": "new", "badge": None}
    assert office.client.put("/staff/2", json={"name": "new"}).json() == {"id": 2, "name": "new", "badge": "b3"}


WRONG_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"nope": 1}, "nope"),
    ({"hashed_password": "new"}, "hashed_password"),
    ({"id": 2, "name": "x"}, "id"),
    ({"id": "1x", "name": "x"}, "id"),
    ({"id": None, "name": "x"}, "id"),
    ({"id": [1], "name": "x"}, "id"),
    ({"id": {"a": 1}, "name": "x"}, "id"),
    ({"id": 10**30, "name": "x"}, "id"),
    ({"name": 5, "id": 1}, "name"),
    ({"name": "x" * 41, "id": 1}, "name"),
]


def test_a_body_leaves_out_what_the_row_has_and_nothing_else(office: Office) -> None:
    for method, (body, field) in itertools.product(("PUT", "PATCH"), WRONG_BODIES):
        problem = refusal(office.client.request(method, "/staff/1", json=body))
        assert problem["fields"] == [field], body
        assert problem["errors"].keys() == {field, "root"}
        assert problem["errors"]["root"] == {"serverError": problem["message"]}
    assert office.client.get("/staff/1").json()["name"] == "name 01"


def test_a_body_that_is_no_object_stays_one_for_the_router_to_refuse(office: Office) -> None:
    for body in (
        "",
        "[]",
        "[1]",
        "{",
        '{"id":1,"id":1',
        '{"id":NaN}',
        '"x"',
        "[" * 20_000,
        '{"id":1}}',
        '{"id":"\\ud800"}',
    ):
        problem = refusal(office.client.put("/staff/1", content=body, headers=JSON))
        assert problem["code"] == "validation_error"
    assert refusal(office.client.put("/staff/1", content=b"\xff{}", headers=JSON))
    assert refusal(office.client.put("/staff/1", content="{}", headers={"Content-Type": "text/plain"}), 415)
    assert refusal(office.client.put("/staff/1", content=b" " * (1024 * 1024 + 1), headers=JSON), 413)


def test_a_copy_of_a_row_can_be_posted_without_its_key(office: Office) -> None:
    shown = office.client.get("/badges/b1").json()
    assert refusal(office.client.post("/badges", json=shown))["fields"] == ["id"]
    copy = {name: value for name, value in shown.items() if name != "id"} | {"code": "b9"}
    assert office.client.post("/badges", json=copy).json()["id"] == "b9"
    several = office.client.post("/tokens", json=[{"uid": str(uuid.UUID(int=n)), "note": "n"} for n in (1, 2)])
    assert [row["id"] for row in several.json()] == [str(uuid.UUID(int=n)) for n in (1, 2)]


def test_a_row_has_an_id_on_every_way_out(office: Office) -> None:
    assert office.client.get("/badges/b2").json() == {"id": "b2", "code": "b2", "level": 1002}
    listed = office.client.get('/badges?sort=["id","DESC"]&range=[0,1]').json()
    assert listed == [{"id": "b4", "code": "b4", "level": 1004}, {"id": "b3", "code": "b3", "level": 1003}]
    assert office.client.get("/badges?limit=1").json()[0]["id"] == "b1"
    with_staff = office.client.get("/badges/b2?_embed=staff").json()
    assert with_staff["id"] == "b2" and len(with_staff["staff"]) == 8
    lines = office.client.get("/badges?id=b1&id=b2", headers={"Accept": "application/x-ndjson"}).text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["b1", "b2"]
    assert office.client.head("/badges").headers["x-total-count"] == "4"
    upserted = office.client.post("/badges/-/upsert", json=[{"code": "b2", "level": 5}, {"code": "b7", "level": 7}])
    assert [row["id"] for row in upserted.json()] == ["b2", "b7"]
    assert office.client.delete("/badges/b7").json()["id"] == "b7"
    tag = office.client.get("/badges/b3").headers["etag"]
    assert office.client.get("/badges/b3", headers={"If-None-Match": tag}).status_code in (200, 304)


def test_an_id_of_another_type_is_the_key_as_a_path_has_it(office: Office) -> None:
    office.insert("Day", *({"day": dt.date(2026, 1, n), "note": f"note {n}"} for n in (1, 2, 3)))
    get = office.client.get
    assert ids(get("/days?_sort=id&_order=desc")) == ["2026-01-03", "2026-01-02", "2026-01-01"]
    assert ids(get("/days?id=2026-01-01&id=2026-01-03")) == ["2026-01-01", "2026-01-03"]
    assert ids(get("/days?id_ne=2026-01-01&note_ne=note 3")) == ["2026-01-02"]
    assert ids(get('/days?filter={"id":["2026-01-02"],"note_like":"NOTE"}')) == ["2026-01-02"]
    assert ids(get('/days?id=2026-01-02&filter={"note":"note 3"}')) == []
    many = ["2026-01-02", *(f"2025-01-{n:02}" for n in range(1, 31)), *(f"{n}-05-05" for n in range(1500, 1900))]
    assert ids(get("/days", params={"filter": json.dumps({"id": many})})) == ["2026-01-02"]
    assert refusal(get("/days?id=x"))["fields"] == ["id"]
    assert refusal(get("/days?id_gte=2026-01-01"))["fields"] == ["id_gte"]
    for depth in range(900, 1000, 7):  # about as deep as the standard library reads
        nested = "[" * depth + "]" * depth
        assert refusal(get(f'/days?filter={{"id":{nested}}}'))
        assert refusal(office.client.put("/staff/1", content=f'{{"id":{nested}}}', headers=JSON))
    assert refusal(get("/days", params={"filter": json.dumps({"id": ["2026-01-01"] * 501})}))["fields"] == ["id"]
    change = {"id": "2026-01-02", "day": "2026-01-02", "note": "new"}
    assert refusal(office.client.put("/days/2026-01-02", json=change), 428)["message"]
    tag = {"If-Match": get("/days/2026-01-02").headers["etag"]}
    assert office.client.put("/days/2026-01-02", json=change, headers=tag).json() == change
    uid = uuid.UUID(int=7)
    office.insert("Token", {"uid": uid, "note": "n"})
    assert ids(get(f"/tokens?id={uid}&id_ne={uuid.UUID(int=8)}")) == [str(uid)]
    assert (
        office.client.put(f"/tokens/{uid}", json={"id": str(uid).upper(), "uid": str(uid), "note": "m"}).status_code
        == 200
    )


def test_rows_of_others_stay_theirs(office: Office) -> None:
    mine, theirs = {"X-User": "1"}, {"X-User": "2"}
    get = office.client.get
    assert ids(get("/memos?id=1&id=2&id=4", headers=mine)) == [2, 4]
    assert get('/memos?range=[0,9]&sort=["id","ASC"]', headers=mine).headers["content-range"] == "items 0-2/3"
    for method in ("PUT", "PATCH", "DELETE"):
        assert refusal(office.client.request(method, "/memos/1", json={"text": "x"}, headers=mine), 404)["message"]
    row = get("/memos/2", headers=mine).json()
    assert office.client.put("/memos/2", json={**row, "text": "x"}, headers=mine).status_code == 200
    assert refusal(office.client.put("/memos/2", json={**row, "owner_id": 2}, headers=mine))["fields"] == ["owner_id"]
    assert office.client.post("/memos", json={"text": "new"}, headers=theirs).json()["owner_id"] == 2
    assert refusal(get("/memos?_end=2"))["message"]


def test_a_deleted_row_is_gone_and_schemas_of_the_users_hold(office: Office) -> None:
    office.insert("Ticket", {"id": 1, "title": "one"}, {"id": 2, "title": "two"})
    shown = office.client.get("/tickets?_end=1").json()[0]
    assert shown == {"id": 1, "title": "one", "shout": "ONE"}
    changed = office.client.put("/tickets/1", json={**shown, "title": "uno"})
    assert changed.json() == {"id": 1, "title": "uno", "shout": "UNO"}
    assert refusal(office.client.put("/tickets/1", json={"deleted_at": None}))["fields"] == ["deleted_at"]
    assert office.client.delete("/tickets/1", headers={"Content-Type": "text/plain"}).json()["id"] == 1
    left = office.client.get("/tickets?id=1&id=2")
    assert (ids(left), left.headers["x-total-count"]) == ([2], "1")
    response = office.client.get("/tickets?title_like=t", headers={"Accept": "text/csv"})
    assert response.text.splitlines() == ["id,title", "2,two"]
    assert refusal(office.client.post("/tickets", json={}), 405)["message"]


def test_the_document_tells_of_dialects_where_they_are_spoken() -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    document = Office("sqlite://").app.openapi()
    validator.validate(document)
    paths = document["paths"]

    def names(path: str) -> set[str]:
        return {parameter["name"] for parameter in paths[path]["get"]["parameters"]}

    assert {"range", "embed", "_start", "_end", "_sort", "_order", "_embed"} <= names("/badges")
    assert {"range", "_end"} <= names("/days") and not {"embed", "_embed"} & (names("/days") | names("/days/{pk}"))
    assert not {"range", "_start", "embed", "_embed"} & names("/plain-staff")
    assert {"range.eq", "range"} <= names("/odd") and "range.eq" not in names("/odd-server")
    assert not {"_start", "_end"} & names("/odd-simple")
    assert "json-server" in paths["/badges"]["get"]["description"]
    assert "json-server" not in paths["/plain-staff"]["get"]["description"]

    def row(path: str) -> Any:
        return paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]

    assert "allOf" in json.dumps(row("/badges/{pk}")) and "allOf" not in json.dumps(row("/staff/{pk}"))
    problems = {
        path: paths[path]["get"]["responses"]["422"]["content"]["application/problem+json"]["schema"]["$ref"]
        for path in ("/staff", "/plain-staff")
    }
    assert [ref.rpartition("/")[2] for ref in problems.values()] == ["DialectProblemDetails", "ProblemDetails"]
    put, patch = (paths["/badges/{pk}"][method] for method in ("put", "patch"))
    assert put["requestBody"] == patch["requestBody"]
    assert "403" in put["responses"]


def test_what_cannot_be_spoken_is_refused_when_the_router_is_made() -> None:
    db = SQLAlchemy("sqlite://")
    base: Any = db.Base

    class Plain(base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Other(base):
        code: Mapped[str] = mapped_column(primary_key=True)
        id: Mapped[int]

    class Part(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant: Mapped[int] = mapped_column(primary_key=True)

    class Narrow(BaseModel):
        name: str = ""

    class Guard:
        def before_replace(self, session: Any, values: Any, row: Any) -> None: ...

    class Coded(base):
        code: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str]

    keyless = sa.Table("keyless", db.metadata, sa.Column("a", sa.Integer))
    for model, options, words in (
        (Plain, {"dialects": ["simple-rest", "postgrest"]}, ["'postgrest'", "simple-rest, json-server"]),
        (Plain, {"dialects": "json_server"}, ["'json_server'", "simple-rest, json-server"]),
        (Plain, {"dialects": BOTH, "envelope": True}, ["envelope"]),
        (Plain, {"dialects": BOTH, "hooks": Guard()}, ["before_replace", "before_update"]),
        (Other, {"dialects": BOTH}, ["Other.id", 'exclude=("id",)']),
        (Part, {"dialects": BOTH}, ["Part.id"]),
        (keyless, {"dialects": BOTH}, ["keyless", "key"]),
        (Coded, {"dialects": BOTH, "read_schema": Narrow}, ["read_schema", "code"]),
    ):
        with pytest.raises(ValueError, match="dialect") as refused:
            CRUDRouter(model, db=db, **options)  # type: ignore[arg-type]
        assert all(word in str(refused.value) for word in words), refused.value
    CRUDRouter(Other, db=db, dialects="simple-rest", exclude=("id",))
    CRUDRouter(Other, db=db)
