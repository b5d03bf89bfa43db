"""Books: the routes written by hand."""

from fastapi.testclient import TestClient

BOOK = {"title": "Notes", "isbn": "9780306406157", "author": "Ada"}


def add(client: TestClient, **changes: str) -> int:
    answer = client.post("/books", json=BOOK | changes)
    assert answer.status_code == 201, answer.text
    book_id: int = answer.json()["id"]
    return book_id


def test_a_book_is_added_with_its_author(client: TestClient) -> None:
    book = client.get(f"/books/{add(client)}").json()
    assert book["title"] == "Notes"
    assert client.get(f"/authors/{book['author']['id']}").json()["name"] == "Ada"


def test_an_author_who_is_known_is_not_added_again(client: TestClient) -> None:
    add(client)
    add(client, title="More notes", isbn="0306406152")
    assert len(client.get("/authors").json()) == 1


def test_a_number_is_taken_once_and_nothing_of_the_second_try_stays(client: TestClient) -> None:
    add(client)
    assert client.post("/books", json=BOOK | {"author": "Grace"}).status_code == 409
    assert [author["name"] for author in client.get("/authors").json()] == ["Ada"]


def test_what_is_no_book_is_refused(client: TestClient) -> None:
    assert client.post("/books", json=BOOK | {"isbn": "1"}).status_code == 422
    assert client.get("/books/1").status_code == 404


def test_books_come_in_pages(client: TestClient) -> None:
    first, second = add(client), add(client, isbn="0306406152")
    page = client.get("/books", params={"limit": 1}).json()
    assert [book["id"] for book in page] == [first]
    page = client.get("/books", params={"limit": 1, "after": first}).json()
    assert [book["id"] for book in page] == [second]


def test_an_author_with_books_stays_until_they_are_deleted(client: TestClient) -> None:
    path = f"/books/{add(client)}"
    author = f"/authors/{client.get(path).json()['author']['id']}"
    assert client.delete(author).status_code == 409
    assert client.delete(path).status_code == 204
    assert client.delete(author).status_code == 200
