"""Rows read by PostgREST's clients and in its wire: what is selected, filtered, ordered, counted and embedded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from postgrest import APIError, CountMethod

OBJECT = "application/vnd.pgrst.object+json"


def ids(rows: Any) -> list[int]:
    return [row["id"] for row in rows]


def test_columns_are_chosen_renamed_and_cast(shelves: Any) -> None:
    assert shelves.rest.from_("tag").select("*").execute().data == [{"id": 1, "name": "old"}, {"id": 2, "name": "new"}]
    first = shelves.rest.from_("book").select("key:id", "title", "text:pages::text", "price::int").limit(1)
    assert first.execute().data == [{"key": 1, "title": "Alpha", "text": "100", "price": 12}]
    found = shelves.rows("book?select=lang:details->>lang,details->parts->1->n,printed::date&id=eq.1")
    assert found == [{"lang": "en", "n": 2, "printed": "2026-01-31"}]
    assert shelves.rows("tag?select=") == [{}, {}]
    assert shelves.rows("tag?select=name&id=eq.1&order=id") == [{"name": "old"}]


def test_a_path_into_json_that_is_no_place_of_a_list(shelves: Any) -> None:
    for place in ("²", '"--1"', "-9", '"-"'):
        assert shelves.rows(f"book?select=found:details->parts->{place}&id=eq.1") == [{"found": None}]
    assert shelves.rows("book?select=found:details->parts->-1->>n&id=eq.1") == [{"found": "2"}]


def test_a_short_text_is_cast_to_no_endless_number(library: Any) -> None:
    texts = ["1E+5000000", "-1E1000", "1E-1001", "1E+999", "1E-999", "1e999"]
    library.insert("Tag", *({"id": 10 + number, "name": text} for number, text in enumerate(texts)))
    for number in range(3):
        assert library.refused(f"tag?select=name::numeric&id=eq.{10 + number}") == (400, "22P02")
    for number in range(3, 5):
        assert len(library.get(f"tag?select=name::numeric&id=eq.{10 + number}").text) < 1100
    for type_ in ("float8", "real", "int"):
        assert library.refused(f"tag?select=name::{type_}&id=eq.15") == (400, "22P02")


def test_a_list_of_any_is_one_condition(shelves: Any) -> None:
    many = ",".join(map(str, range(3, 3000)))
    assert ids(shelves.rows(f"book?select=id&order=id&id=eq(any).{{1,{many}}}")) == [1, 3, 4]
    assert ids(shelves.rows(f"book?select=id&order=id&id=not.eq(any).{{1,{many}}}")) == [2]
    assert ids(shelves.rows("book?select=id&order=id&title=eq(any).{alpha,Delta}")) == [4]
    assert shelves.rows("book?id=eq(any).{}") == []


def test_what_leads_there_and_back_does_not_multiply_without_bound(library: Any) -> None:
    library.insert("Book", *({"id": 100 + number, "title": "x", "author_id": 3} for number in range(30)))
    book, author = "book!author_id", "author!author_id"
    there_and_back = f"author?select={book}({author}({book}(id)))&id=eq.3"
    assert len(library.rows(there_and_back)[0]["book"][0]["author"]["book"]) == 30
    further = f"id,{book}({author}({book}({author}({book}(id)))))"
    assert library.refused(f"author?select={further}") == (400, "54000")
    assert library.refused(f"author?select=id,...{book}(id,{author}({book}({author}({book}(id)))))") == (400, "54000")
    assert len(library.rows(f"author?select={further}&book.limit=1&id=eq.3")) == 1
    changed = library.client.patch(
        f"/rest/v1/author?id=eq.3&select={further}", json={"name": "D"}, headers={"prefer": "return=representation"}
    )
    assert (changed.status_code, changed.json()["code"]) == (400, "54000")
    assert library.rows("author?select=name&id=eq.3") == [{"name": "Cara"}]


def test_an_estimate_hides_no_rows(library: Any) -> None:
    if library.family == "postgresql":
        with library.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("DELETE FROM pair")
            connection.exec_driver_sql("VACUUM ANALYZE pair")
    library.insert("Pair", *({"left": 7, "right": number} for number in range(30)))
    for mode in ("estimated", "planned"):
        response = library.get("pair?offset=10&limit=5", prefer=f"count={mode}")
        first, total = response.headers["content-range"].split("/")
        assert (response.status_code in (200, 206), first, len(response.json())) == (True, "10-14", 5)
        assert int(total) >= 15
        assert library.get("pair?offset=90", prefer=f"count={mode}").status_code in (200, 206)
    assert library.refused("pair?offset=90", prefer="count=exact") == (416, "PGRST103")


def test_decimals_are_numbers_and_no_secret_leaves(shelves: Any) -> None:
    response = shelves.get("book?select=price&order=id")
    assert json.loads(response.text, parse_float=str)[0] == {"price": "12.50"}
    assert set(shelves.rows("author?limit=1")[0]) == {"id", "name", "born", "active"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("id=eq.2", [2]),
        ("id=neq.2", [1, 3, 4]),
        ("pages=gt.100&pages=lte.300", [2, 3]),
        ("pages=gte.200", [2, 3]),
        ("pages=lt.100", [4]),
        ("title=like.*ta*", [2, 4]),
        ("title=like.A*", [1]),
        ("title=ilike.*A", [1, 4]),
        ("title=not.ilike.*a*", []),
        ("title=like(any).{A*,D*}", [1, 4]),
        ("title=ilike(all).{*a*,*ph*}", [1]),
        ("pages=eq(any).{50,100}", [1, 4]),
        ("id=in.(1,3,99)", [1, 3]),
        ('title=in.("Beta (2nd)",Delta)', [2, 4]),
        ("id=not.in.(1,3)", [2, 4]),
        ("id=in.()", []),
        ("price=is.null", [2]),
        ("price=not.is.null", [1, 3, 4]),
        ("price=is.not_null", [1, 3, 4]),
        ("price=isdistinct.3", [1, 2, 4]),
        ("price=not.isdistinct.3", [3]),
        ("price=eq.12.5", [1]),
        ("printed=gte.2026-01-31T00:00:00", [1]),
        ("or=(pages.eq.50,title.eq.Alpha)", [1, 4]),
        ('or=(title.eq."Beta (2nd)",and(pages.gt.200,price.lt.5))', [2, 3]),
        ("not.or=(pages.eq.50,title.eq.Alpha)", [2, 3]),
        ("and=(pages.gt.50,not.and(pages.gt.150,pages.lt.250),id.not.in.(3))", [1]),
        ("or=(title.like(any).{A*,B*},id.in.(4))", [1, 2, 4]),
        ("details->>lang=eq.it", [3]),
        ("details->>lang=not.in.(it,fr)", [1]),
        ("details->parts->1->>n=eq.2", [1]),
        ("details->>lang=is.null", [2, 4]),
        ("or=(details->>lang.like.e*,details->>lang.eq.it)", [1, 3]),
        ("details->>flag=eq.true", [3]),
        ("details->>none=not.is.null", []),
        ("details->>²=not.is.null", []),
        ("details->parts->>99999999999999999999=not.is.null", []),
    ],
)
def test_filters(shelves: Any, query: str, expected: list[int]) -> None:
    assert ids(shelves.rows(f"book?select=id&order=id&{query}")) == expected


def test_regular_expressions_where_the_database_has_them(shelves: Any) -> None:
    if shelves.family == "sqlite":
        assert shelves.refused("book?title=match.^A") == (400, "PGRST127")
        return
    for query, expected in (
        ("title=match.^A", [1]),
        ("title=match.^a", []),
        ("title=imatch.^a", [1]),
        ("title=not.imatch.A$", [2, 3]),
        ("title=match(any).{^A,^D}", [1, 4]),
        ("or=(title.match.^A,id.eq.2)", [1, 2]),
    ):
        assert ids(shelves.rows(f"book?select=id&order=id&{query}")) == expected
    assert shelves.refused("book?title=match.(") == (400, "22P02")
    assert shelves.refused("book?title=match.") == (400, "22P02")
    assert shelves.refused("book?pages=match.1") == (404, "42883")


def test_true_false_and_unknown_are_told_apart(shelves: Any) -> None:
    for word, expected in (("true", [1]), ("false", [2]), ("unknown", [3]), ("null", [3])):
        assert ids(shelves.rows(f"author?active=is.{word}")) == expected
    assert ids(shelves.rows("author?active=not.is.true&order=id")) == [2, 3]


def test_the_client_filters(shelves: Any) -> None:
    books = shelves.rest.from_("book")
    assert ids(books.select("id").in_("title", ["Beta (2nd)", 'quo"te', "Delta"]).order("id").execute().data) == [2, 4]
    assert ids(books.select("id").or_("pages.lt.60,title.eq.Alpha").order("id").execute().data) == [1, 4]
    assert ids(books.select("id").not_.is_("price", None).ilike("title", "%ALPHA%").execute().data) == [1]
    assert ids(books.select("id").match({"id": 1, "title": "Alpha"}).execute().data) == [1]
    authors = shelves.rest.from_("author")
    assert ids(authors.select("id").eq("name", "Bob, Jr.").execute().data) == [2]
    assert ids(authors.select("id").is_("active", True).execute().data) == [1]
    assert ids(authors.select("id").like_any_of("name", "A%,C%").order("id").execute().data) == [1, 3]


def test_the_order_puts_nulls_as_postgresql_does(shelves: Any) -> None:
    def order(text: str) -> list[int]:
        return ids(shelves.rows(f"book?select=id&order={text}"))

    assert order("price") == [3, 4, 1, 2]
    assert order("details->>lang.desc.nullslast,id") == [3, 1, 2, 4]
    assert order("price.desc") == [2, 1, 4, 3]
    assert order("price.asc.nullsfirst,id") == [2, 3, 4, 1]
    assert order("price.desc.nullslast") == [1, 4, 3, 2]
    assert order("author_id.desc.nullslast,id.desc") == [3, 2, 1, 4]
    found = shelves.rest.from_("book").select("id").order("price", desc=True, nullsfirst=False).order("id")
    assert ids(found.execute().data) == [1, 4, 3, 2]


def test_rows_are_ordered_by_what_they_refer_to(shelves: Any) -> None:
    def order(text: str, **headers: str) -> list[int]:
        return ids(shelves.rows(f"book?select=id,author!author_id(),e:editor(name)&order={text}", **headers))

    assert order("author(name).desc.nullslast,id.desc") == [3, 2, 1, 4]
    assert order("author(name),id") == [1, 2, 3, 4]
    assert order("e(born).nullsfirst,id") == [1, 2, 4, 3]
    found = shelves.rest.from_("book").select("id", "author!author_id(name)").order("author(name)", desc=True)
    assert ids(found.order("id").execute().data) == [4, 3, 1, 2]
    notes = "note?select=id,author()&order=author(name).desc"
    assert ids(shelves.rows(notes, **{"x-user": "1"})) == [1]
    assert shelves.refused("author?select=id,book!author_id()&order=book(title)") == (400, "PGRST118")
    assert shelves.refused("book?select=id,author!author_id()&order=author(hashed_password)") == (400, "42703")
    assert shelves.refused("book?select=id&order=author(name)") == (400, "PGRST108")


def test_pages_and_counts(shelves: Any) -> None:
    response = shelves.get("book?select=id&order=id&limit=2&offset=1", prefer="count=exact")
    assert (response.status_code, response.headers["content-range"]) == (206, "1-2/4")
    assert response.headers["preference-applied"] == "count=exact"
    response = shelves.get("book?select=id&order=id", **{"range-unit": "items", "range": "1-2"})
    assert (response.status_code, response.headers["content-range"], ids(response.json())) == (200, "1-2/*", [2, 3])
    response = shelves.get("book?id=eq.99", prefer="count=exact")
    assert (response.status_code, response.headers["content-range"]) == (200, "*/0")
    response = shelves.get("book?limit=0")
    assert (response.status_code, response.headers["content-range"], response.json()) == (200, "*/*", [])
    response = shelves.get("book?offset=9", prefer="count=exact")
    assert (response.status_code, response.json()["code"]) == (416, "PGRST103")
    assert response.headers["content-range"] == "*/4"
    assert shelves.refused("book", range="5-2") == (416, "PGRST103")
    assert shelves.refused("book?limit=-1") == (416, "PGRST103")
    for count in CountMethod:
        found = shelves.rest.from_("book").select("id", count=count).gt("id", 2).range(0, 0).execute()
        assert (found.count, len(found.data)) == (2, 1)


def test_head_counts_and_has_no_body(shelves: Any) -> None:
    found = shelves.rest.from_("book").select("*", count="exact", head=True).execute()
    assert (found.count, found.data) == (4, [])
    response = shelves.client.head("/rest/v1/book?nope=eq.1")
    assert (response.status_code, response.content) == (400, b"")
    assert response.headers["proxy-status"] == "PostgREST; error=42703"


def test_one_object_or_none(shelves: Any) -> None:
    books = shelves.rest.from_("book")
    assert books.select("id").eq("id", 1).single().execute().data == {"id": 1}
    assert books.select("id").eq("id", 9).maybe_single().execute() is None
    for query, number in (("id=gt.0", 4), ("id=eq.9", 0)):
        body = shelves.get(f"book?{query}", accept=OBJECT).json()
        assert (body["code"], body["details"]) == ("PGRST116", f"The result contains {number} rows")
    with pytest.raises(APIError) as raised:
        books.select("id").single().execute()
    assert raised.value.code == "PGRST116"
    assert shelves.get("tag?id=eq.1", accept=OBJECT).headers["content-type"].startswith(OBJECT)


def test_other_media_types(shelves: Any) -> None:
    text = shelves.rest.from_("book").select("id", "title", "author!author_id(name)").eq("id", 3).csv().execute().data
    assert text.splitlines()[0] == "id,title,author"
    assert text.splitlines()[1].startswith("3,gamma*,")
    stripped = shelves.rest.from_("book").select("id", "price").eq("id", 2).strip_nulls().execute()
    assert stripped.data == [{"id": 2}]
    assert shelves.refused("book", accept="application/vnd.pgrst.plan+json") == (406, "PGRST107")
    assert shelves.refused("book", accept="image/png") == (406, "PGRST107")


def test_relations_are_embedded(shelves: Any) -> None:
    found = shelves.rows("author?select=name,book!author_id(title)&order=id&book.order=title.desc")
    assert found[0] == {"name": "Ann", "book": [{"title": "Beta (2nd)"}, {"title": "Alpha"}]}
    assert found[2] == {"name": "Cara", "book": []}
    found = shelves.rows("book?select=id,writer:author!author_id(name),editor(name),tag(name)&order=id&tag.order=id")
    assert found[0] == {
        "id": 1, "writer": {"name": "Ann"}, "editor": {"name": "Bob, Jr."}, "tag": [{"name": "old"}, {"name": "new"}],
    }  # fmt: skip
    assert found[3] == {"id": 4, "writer": None, "editor": None, "tag": []}
    nested = shelves.rows("tag?select=name,book(title,author!book_author_id_fkey(name,born::text))&id=eq.1")
    assert nested[0]["book"] == [{"title": "Alpha", "author": {"name": "Ann", "born": "1970-01-31"}}]


def test_embeddings_are_filtered_ordered_and_cut(shelves: Any) -> None:
    found = shelves.rest.from_("author").select("id", "book!author_id(id)").order("id")
    found = found.gt("book.pages", 100).order("id", foreign_table="book").limit(1, foreign_table="book")
    assert [ids(row["book"]) for row in found.execute().data] == [[2], [3], []]
    rows = shelves.rows("author?select=id,b:book!author_id(id)&b.order=id&b.limit=1&b.offset=1&order=id")
    assert [ids(row["b"]) for row in rows] == [[2], [], []]
    rows = shelves.rows("author?select=id,b:book!author_id(id)&b.or=(pages.eq.100,title.eq.gamma*)&order=id")
    assert [ids(row["b"]) for row in rows] == [[1], [3], []]


def test_inner_and_null_embeddings_choose_the_rows(shelves: Any) -> None:
    inner = "author?select=id,book!author_id!inner(id)&book.pages=gt.150&order=id"
    assert shelves.rows(inner) == [{"id": 1, "book": [{"id": 2}]}, {"id": 2, "book": [{"id": 3}]}]
    response = shelves.get(inner, prefer="count=exact")
    assert response.headers["content-range"] == "0-1/2"
    assert ids(shelves.rows("author?select=id,book!author_id()&book=is.null")) == [3]
    assert ids(shelves.rows("author?select=id,book!author_id()&book=not.is.null&order=id")) == [1, 2]
    chosen = "author?select=id,b:book!author_id(id),e:book!editor_id(id)&or=(b.is.null,e.is.null)&order=id"
    assert ids(shelves.rows(chosen)) == [3]
    deep = "author?select=id,book!author_id!inner(tag!inner(name))&book.tag.name=eq.new&order=id"
    assert shelves.rows(deep) == [
        {"id": 1, "book": [{"tag": [{"name": "new"}]}]},
        {"id": 2, "book": [{"tag": [{"name": "new"}]}]},
    ]


def test_spread_members_join_those_of_the_row(shelves: Any) -> None:
    rows = shelves.rows("book?select=id,...author!author_id(writer:name)&order=id&id=in.(1,4)")
    assert rows == [{"id": 1, "writer": "Ann"}, {"id": 4, "writer": None}]
    assert shelves.rows("author?select=id,...book!author_id(titles:title)&book.order=id&id=in.(1,3)&order=id") == [
        {"id": 1, "titles": ["Alpha", "Beta (2nd)"]},
        {"id": 3, "titles": []},
    ]


def test_owned_rows_are_the_callers_everywhere(shelves: Any) -> None:
    assert shelves.get("note").status_code == 401
    assert shelves.rows("note?select=text", **{"x-user": "1"}) == [{"text": "mine"}]
    found = shelves.rows("author?select=note(text)&id=eq.1", **{"x-user": "2"})
    assert found == [{"note": [{"text": "theirs"}]}]
    hidden = "author?select=id,note!inner()&note.text=eq.theirs"
    assert shelves.rows(hidden, **{"x-user": "1"}) == []
    assert shelves.get(hidden).status_code == 401
