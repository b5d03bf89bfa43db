<%page args="router"/>\
${define}existing_book(book_id: int, session: SessionDep) -> Book:
    """The book of the path, with its author; 404 where there is none."""
    book = ${wait}session.get(Book, book_id, options=[joinedload(Book.author)])
    if book is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "There is no such book.")
    return book


BookDep = Annotated[Book, Depends(existing_book)]


@${router}.get("")
${define}list_books(
    session: SessionDep,
    after: Annotated[int, Query(ge=0, description="The last id of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[BookOut]:
    """The books by their ids, a page at a time."""
    found = ${wait}session.scalars(
        select(Book)
        .options(joinedload(Book.author))
        .where(Book.id > after)
        .order_by(Book.id)
        .limit(limit)
    )
    return [BookOut.model_validate(book) for book in found]


@${router}.get("/{book_id}")
${define}read_book(book: BookDep) -> BookOut:
    """One book."""
    return BookOut.model_validate(book)


@${router}.post("", status_code=status.HTTP_201_CREATED)
${define}add_book(new: BookIn, session: SessionDep) -> BookOut:
    """Add a book, and its author where nobody has that name: both or neither."""
    author = ${wait}session.scalar(select(Author).where(Author.name == new.author))
    book = Book(title=new.title, isbn=new.isbn, author=author or Author(name=new.author))
    session.add(book)
    ${wait}session.flush()
    return BookOut.model_validate(book)


@${router}.delete("/{book_id}", status_code=status.HTTP_204_NO_CONTENT)
${define}delete_book(book: BookDep, session: SessionDep) -> None:
    """Delete a book."""
    ${wait}session.delete(book)
