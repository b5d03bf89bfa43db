"""What cannot be answered is a 4xx in PostgREST's shape, on every database, and nothing secret is named by it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

REFUSED = [
    ("nope", 404, "PGRST205"),
    ("diary", 404, "PGRST205"),
    ("", 404, "PGRST126"),
    ("rpc/anything", 404, "PGRST202"),
    ("book?select=nope", 400, "42703"),
    ("book?select=api_key", 400, "42703"),
    ("author?select=hashed_password", 400, "42703"),
    ("author?hashed_password=like.c*", 400, "42703"),
    ("author?order=hashed_password", 400, "42703"),
    ("author?or=(hashed_password.like.c*,id.eq.1)", 400, "42703"),
    ("book?select=author!author_id(hashed_password)", 400, "42703"),
    ("book?select=author!author_id(id)&author.hashed_password=like.c*", 400, "42703"),
    ("author?select=diary(*)", 400, "PGRST200"),
    ("author?select=diaries(text)", 400, "PGRST200"),
    ("author?diary.text=eq.x", 400, "PGRST108"),
    ("author?select=book(*)", 300, "PGRST201"),
    ("book?select=author!nope(*)", 400, "PGRST200"),
    ("book?select=id,", 400, "PGRST100"),
    ("book?select=id)", 400, "PGRST100"),
    ("book?select=tag(", 400, "PGRST100"),
    ("book?select=tag(name", 400, "PGRST100"),
    ("book?select=tag!inner", 400, "PGRST100"),
    ('book?select="id', 400, "PGRST100"),
    ("book?select=id::", 400, "PGRST100"),
    ("book?select=id::money", 400, "42704"),
    ("book?select=title::int", 400, "22P02"),
    ("book?select=id::uuid", 400, "22P02"),
    ("book?select=price::uuid&price=not.is.null", 400, "22P02"),
    ("book?select=details->flag::uuid&id=eq.3", 400, "22P02"),
    ("author?select=active::uuid&id=eq.1", 400, "22P02"),
    ("book?select=title->a", 400, "42883"),
    ("book?select=id.sum()", 400, "PGRST123"),
    ("book?select=count()", 400, "PGRST123"),
    ("book?select=tag(name),tag(id)", 400, "42712"),
    ("book?id=1", 400, "PGRST100"),
    ("book?id=eq", 400, "PGRST100"),
    ("book?id=almost.1", 400, "PGRST100"),
    ("book?id=eq(some).1", 400, "PGRST100"),
    ("book?id=neq(any).{1}", 400, "PGRST100"),
    ("book?id=in.1,2", 400, "PGRST100"),
    ("book?id=in.(1,2", 400, "PGRST100"),
    ('book?title=in.("a', 400, "PGRST100"),
    ("book?id=eq.x", 400, "22P02"),
    ("book?id=eq.99999999999999999999", 400, "22P02"),
    ("book?id=in.(1,x)", 400, "22P02"),
    ("book?price=eq.NaN", 400, "22P02"),
    ("book?printed=gt.yesterday", 400, "22P02"),
    ("book?id=adj.(1,2)", 400, "PGRST127"),
    ("book?id=is.one", 400, "PGRST100"),
    ("book?id=is.true", 400, "42804"),
    ("book?id=like.1*", 404, "42883"),
    ("book?details=eq.1", 404, "42883"),
    ("book?details->lang=eq.en", 400, "PGRST127"),
    ("book?order=details->lang", 400, "PGRST127"),
    ("book?title->>lang=eq.en", 400, "42883"),
    ("book?order=title->>lang", 400, "42883"),
    ('book?details->>"a\\"b"=eq.en', 400, "22P02"),
    ("book?details" + "->a" * 20 + "->>b=eq.en", 400, "22P02"),
    ("book?details->>" + "a" * 200 + "=eq.en", 400, "22P02"),
    ("author?hashed_password->>a=eq.b", 400, "42703"),
    ("book?order=details", 404, "42883"),
    ("book?select=id,author!author_id(name)&order=author(name", 400, "PGRST100"),
    ("book?select=id,author!author_id(name)&order=author()", 400, "PGRST100"),
    ("tag?select=id,book(author!author_id(name))&book.order=author(name)", 400, "PGRST127"),
    ("book?select=id,tag(name)&tag=eq.1", 400, "PGRST120"),
    ("book?or=(id.eq.1", 400, "PGRST100"),
    ("book?or=id.eq.1", 400, "PGRST100"),
    ("book?or=()", 400, "PGRST100"),
    ("book?or=(id.eq.1)x", 400, "PGRST100"),
    ("book?not.id=eq.1", 400, "PGRST100"),
    ("book?order=id.up", 400, "PGRST100"),
    ("book?order=id.asc.desc", 400, "PGRST100"),
    ("book?order=nope", 400, "42703"),
    ("book?limit=ten", 400, "PGRST100"),
    ("book?offset=1e3", 400, "PGRST100"),
    ("book?offset=99999999999999", 400, "PGRST100"),
    ("book?nope=eq.1", 400, "42703"),
    ("book?a..b=eq.1", 400, "PGRST100"),
    ("book?=eq.1", 400, "PGRST100"),
    ("book?select=id&select=title", 400, "PGRST100"),
    ("book?title=eq.%00", 400, "PGRST100"),
    ("book?title=like.a\\", 400, "22P02"),
    ("book?or=" + "(or" * 40 + "(id.eq.1)" + ")" * 40, 400, "PGRST100"),
    ("book?or=(" + "not.and(" * 2000, 400, "PGRST100"),
    ("book?select=" + "tag(book(" * 500, 400, "PGRST100"),
    ("book?select=" + ",".join(f"t{number}:tag(id)" for number in range(30)), 400, "PGRST100"),
    ("book?select=" + ",".join(["id"] * 500), 400, "PGRST100"),
    ("book?or=(" + ",".join(["id.eq.1"] * 1000) + ")", 400, "PGRST100"),
    ("book?id=in.(" + ",".join(["1"] * 6000) + ")", 400, "22P02"),
    ("book?id=eq(any).{" + ",".join(["1"] * 6000) + "}", 400, "22P02"),
    ("book?id=eq(all).{" + ",".join(["1"] * 201) + "}", 400, "PGRST100"),
    ("book?id=gt(any).{" + ",".join(["1"] * 101) + "}&pages=gt(all).{" + ",".join(["1"] * 100) + "}", 400, "PGRST100"),
    ("book?or=(id.lt.0,title.ilike(any).{" + ",".join(["a*"] * 200) + "})", 400, "PGRST100"),
    ("book?" + "&".join(["id=gt.0"] * 500), 400, "PGRST100"),
    ("book?title=like." + "a*" * 30, 400, "22P02"),
]


@pytest.mark.parametrize(("path", "status", "code"), REFUSED, ids=[path[:60] for path, _, _ in REFUSED])
def test_it_is_refused(shelves: Any, path: str, status: int, code: str) -> None:
    assert shelves.refused(quote(path, safe='/?&=%()"*.,:!->')) == (status, code)


def test_unknown_preferences_matter_to_strict_clients_alone(shelves: Any) -> None:
    assert shelves.refused("book", prefer="handling=strict, anything=1") == (400, "PGRST122")
    assert shelves.get("book", prefer="anything=1, count=all").status_code == 200


def test_a_schema_that_is_not_there(shelves: Any) -> None:
    assert shelves.refused("book", **{"accept-profile": "private"}) == (406, "PGRST106")
    assert shelves.get("book", **{"accept-profile": "public"}).status_code == 200


def test_methods_that_are_not_there(shelves: Any) -> None:
    response = shelves.client.put("/rest/v1/book?id=eq.1", json={"id": 1})
    assert (response.status_code, response.json()["code"]) == (405, "PGRST117")
    assert "PUT" not in response.headers["allow"]
    response = shelves.client.request("TRACE", "/rest/v1/book")
    assert (response.status_code, response.json()["code"]) == (405, "PGRST117")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST, PATCH, DELETE"
    assert shelves.client.options("/rest/v1/book").headers["allow"].startswith("GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "author", {"name": "x", "nope": 1}, 400, "PGRST204"),
        ("POST", "author", {"name": "x", "hashed_password": "y"}, 400, "PGRST204"),
        ("POST", "author?columns=name,hashed_password", {"name": "x"}, 400, "PGRST204"),
        ("POST", "author?columns=name,", {"name": "x"}, 400, "PGRST100"),
        ("POST", "author", {"born": None}, 400, "23502"),
        ("POST", "author", {"name": None}, 400, "22P02"),
        ("POST", "author", {"name": 5}, 400, "22P02"),
        ("POST", "author", {"name": "x" * 41}, 400, "22P02"),
        ("POST", "author", {"name": "a\x00"}, 400, "22P02"),
        ("POST", "author", "text", 400, "PGRST102"),
        ("POST", "author", [["x"]], 400, "PGRST102"),
        ("POST", "author?select=nope", {"name": "x"}, 400, "42703"),
        ("POST", "author?select=book(id)", {"name": "x"}, 300, "PGRST201"),
        ("POST", "book", {"title": "x", "pages": -1}, 400, "23514"),
        ("POST", "book", {"title": "x", "author_id": 99}, 409, "23503"),
        ("POST", "book", {"title": "x", "pages": 10**30}, 400, "22P02"),
        ("PATCH", "book?id=eq.1", {"id": 7}, 400, "428C9"),
        ("PATCH", "book?id=eq.1", {"api_key": "x"}, 400, "PGRST204"),
        ("PATCH", "book?id=eq.1", {"title": None}, 400, "22P02"),
        ("PATCH", "book?id=eq.1", [{"title": "x"}], 400, "PGRST102"),
        ("PATCH", "book?id=eq.x", {"title": "x"}, 400, "22P02"),
        ("PATCH", "book?api_key=eq.x", {"title": "x"}, 400, "42703"),
        ("PATCH", "author?id=eq.2", {"name": "Ann"}, 409, "23505"),
        ("DELETE", "book?nope=eq.1", None, 400, "42703"),
        ("PATCH", "draft?id=eq.1", {"deleted_at": None}, 400, "428C9"),
        ("POST", "diary", {"text": "x"}, 404, "PGRST205"),
    ],
)
def test_what_cannot_be_written_is_refused(
    shelves: Any, method: str, path: str, body: Any, status: int, code: str
) -> None:
    headers = {"prefer": "return=representation"}
    response = shelves.client.request(method, f"/rest/v1/{path}", json=body, headers=headers)
    assert set(response.json()) == {"code", "message", "details", "hint"}
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert [row["name"] for row in shelves.rows("author?order=id")] == ["Ann", "Bob, Jr.", "Cara"]
    assert len(shelves.rows("book")) == 4


def test_a_body_that_cannot_be_read(shelves: Any) -> None:
    def post(content: bytes, kind: str = "application/json") -> tuple[int, str]:
        headers = {"content-type": kind}
        response = shelves.client.post("/rest/v1/author", content=content, headers=headers)
        return response.status_code, response.json()["code"]

    assert post(b"{") == (400, "PGRST102")
    assert post(b"") == (400, "PGRST102")
    assert post(b"[" * 100_000) == (400, "PGRST102")
    assert post(b'{"name": "x", "born": NaN}')[0] == 400
    assert post(b"name\nx\n", "text/csv") == (415, "PGRST107")
    assert post(b" " * 1_100_000) == (413, "54000")
    assert post(b"[" + b",".join([b'{"name": "x"}'] * 21) + b"]") == (400, "PGRST124")
