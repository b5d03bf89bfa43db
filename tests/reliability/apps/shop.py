"""One database behind every door: middleware and dependency, `def` and `async def`, each under a prefix of its own.

``RELIABILITY_URL`` names the database, ``RELIABILITY_OPTIONS`` (JSON) are options of `SQLAlchemy`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, ModelBase, Session, SQLAlchemy
from fastapi_sqlalchemy.engines import live_engines
from fastapi_sqlalchemy.rest import CRUDRouter

released = [threading.Event()]

OPTIONS: dict[str, Any] = {
    "engine_args": {"pool_size": 5, "max_overflow": 0},
    "pool_timeout": 30,
    "commit_on_exit": True,
    **json.loads(os.environ.get("RELIABILITY_OPTIONS", "{}")),
}
db = SQLAlchemy(os.environ["RELIABILITY_URL"], **OPTIONS)
DIALECT = db.url.get_backend_name()
DEFERRED = {} if DIALECT in ("mysql", "mariadb") else {"deferrable": True, "initially": "DEFERRED"}


class Item(ModelBase, db.Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(60))
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("item.id", **DEFERRED))


class Counter(ModelBase, db.Base):
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(default=0)


class Versioned(ModelBase, db.Base):
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(nullable=False)
    __mapper_args__ = {"version_id_col": version}


class NewItem(BaseModel):
    name: str


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str


class Boom(Exception):
    pass


def sleep(milliseconds: int) -> sa.TextClause:
    """A statement that takes this long in the database."""
    if DIALECT == "postgresql":
        return sa.text(f"SELECT pg_sleep({milliseconds / 1000})")
    if DIALECT in ("mysql", "mariadb"):
        return sa.text(f"SELECT SLEEP({milliseconds / 1000})")
    steps = milliseconds * 4000
    steps_of = f"SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < {steps}"
    return sa.text(f"WITH RECURSIVE step(n) AS ({steps_of}) SELECT count(*) FROM step")


# Each of these leaves work behind whose COMMIT fails.


def dangling(session: Session, name: str) -> None:
    session.add(Item(name=name, parent_id=2_000_000_000))
    session.flush()


def skewed(session: Session, name: str) -> None:
    """A write skew: each of two serializable transactions reads what the other one writes."""
    session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    session.scalar(sa.select(sa.func.count()).select_from(Item))
    session.add(Item(name=name))
    session.flush()
    other = threading.Thread(target=skew)
    other.start()
    other.join()


def skew() -> None:
    with db.engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        connection.scalar(sa.select(sa.func.count()).select_from(Item))
        connection.execute(sa.insert(Item).values(name="skew"))
        connection.commit()


def cut_off(session: Session, name: str) -> None:
    session.add(Item(name=name))
    session.flush()
    ender = threading.Thread(target=_end, args=(_backend(session),))
    ender.start()
    ender.join()


def _backend(session: Session) -> int:
    function = "pg_backend_pid()" if DIALECT == "postgresql" else "CONNECTION_ID()"
    return int(session.scalar(sa.text(f"SELECT {function}")) or 0)


def _end(backend: int) -> None:
    command = "SELECT pg_terminate_backend({})" if DIALECT == "postgresql" else "KILL {}"
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(command.format(backend)))


BROKEN: dict[str, Callable[[Session, str], None]] = {"dangling": dangling, "skewed": skewed, "cut_off": cut_off}


def refuse(kind: str) -> Any:
    """One of the ways to end with 400 or more."""
    if kind == "raised":
        raise HTTPException(409, "no")
    if kind == "crash":
        raise Boom
    if kind == "invalid":
        return {"unexpected": True}
    if kind == "aborted":
        db.abort()
        return JSONResponse({"detail": "no"}, 400)
    if kind == "json":
        return JSONResponse({"detail": "no"}, 422)
    if kind == "stream":
        return StreamingResponse(iter([b"no"]), 503)
    return Response(status_code=500)


def routes(door: str) -> Iterator[APIRouter]:
    """The same routes, written for worker threads and for the event loop."""

    async def current() -> Session:
        return db.session

    async def current_async() -> AsyncSession:
        return db.async_session

    given: Any = Depends(current if door == "middleware" else db.get_session)
    given_async: Any = Depends(current_async if door == "middleware" else db.get_async_session)
    sync = APIRouter(prefix="/sync")

    @sync.post("/items", response_model=ItemOut, status_code=201)
    def create(new: NewItem, session: Session = given) -> Item:
        item = Item(name=new.name)
        session.add(item)
        session.flush()
        return item

    @sync.get("/items/{item_id}", response_model=ItemOut)
    def read(item_id: int, session: Session = given) -> Item:
        item = session.get(Item, item_id)
        if item is None:
            raise HTTPException(404)
        return item

    @sync.post("/broken/{kind}", status_code=201)
    def broken(kind: str, new: NewItem, session: Session = given) -> None:
        BROKEN[kind](session, new.name)

    @sync.post("/refused/{kind}", response_model=ItemOut)
    def refused(kind: str, new: NewItem, session: Session = given) -> Any:
        session.add(Item(name=new.name))
        session.flush()
        return refuse(kind)

    @sync.get("/pause/{milliseconds}")
    def pause(milliseconds: int, session: Session = given) -> None:
        session.execute(sleep(milliseconds))

    @sync.get("/hold")
    def hold(session: Session = given) -> None:
        session.execute(sa.select(1))
        assert released[-1].wait(30)

    @sync.post("/pause/{milliseconds}")
    def create_slowly(milliseconds: int, new: NewItem, session: Session = given) -> None:
        session.add(Item(name=new.name))
        session.flush()
        session.execute(sleep(milliseconds))

    @sync.post("/counters/{counter_id}")
    def increment(counter_id: int, session: Session = given) -> None:
        counter = session.get_one(Counter, counter_id)
        counter.update(value=Counter.value + 1)

    @sync.post("/versioned/{counter_id}")
    def increment_versioned(counter_id: int, session: Session = given) -> None:
        counter = session.get_one(Versioned, counter_id)
        counter.update(value=counter.value + 1)

    asynchronous = APIRouter(prefix="/async")

    @asynchronous.post("/items", response_model=ItemOut, status_code=201)
    async def create_async(new: NewItem, session: AsyncSession = given_async) -> Item:
        item = Item(name=new.name)
        session.add(item)
        await session.flush()
        return item

    @asynchronous.get("/items/{item_id}", response_model=ItemOut)
    async def read_async(item_id: int, session: AsyncSession = given_async) -> Item:
        item = await session.get(Item, item_id)
        if item is None:
            raise HTTPException(404)
        return item

    @asynchronous.post("/broken/{kind}", status_code=201)
    async def broken_async(kind: str, new: NewItem, session: AsyncSession = given_async) -> None:
        await session.run_sync(functools.partial(BROKEN[kind], name=new.name))  # type: ignore[arg-type]

    @asynchronous.post("/refused/{kind}", response_model=ItemOut)
    async def refused_async(kind: str, new: NewItem, session: AsyncSession = given_async) -> Any:
        session.add(Item(name=new.name))
        await session.flush()
        return refuse(kind)

    @asynchronous.get("/pause/{milliseconds}")
    async def pause_async(milliseconds: int, session: AsyncSession = given_async) -> None:
        await session.execute(sleep(milliseconds))

    @asynchronous.post("/pause/{milliseconds}")
    async def create_slowly_async(milliseconds: int, new: NewItem, session: AsyncSession = given_async) -> None:
        session.add(Item(name=new.name))
        await session.flush()
        await session.execute(sleep(milliseconds))

    @asynchronous.post("/counters/{counter_id}")
    async def increment_async(counter_id: int, session: AsyncSession = given_async) -> None:
        counter = await session.get_one(Counter, counter_id)
        await counter.aupdate(value=Counter.value + 1)

    @asynchronous.post("/versioned/{counter_id}")
    async def increment_versioned_async(counter_id: int, session: AsyncSession = given_async) -> None:
        counter = await session.get_one(Versioned, counter_id)
        await counter.aupdate(value=counter.value + 1)

    yield sync
    yield asynchronous


def add_shared_routes(app: FastAPI) -> None:
    """What the doors have in common: plain and session-less routes."""

    @app.get("/plain")
    def plain() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/plain-async")
    async def plain_async() -> dict[str, bool]:
        return {"ok": True}


def add_conflict_routes(app: FastAPI) -> None:
    """Transactions that collide with others, and are run again."""

    meeting = Meeting()

    @app.post("/sync/locked/{counter_id}")
    def increment_locked(counter_id: int) -> None:
        @db.transaction(retries=10)
        def increment() -> None:
            counter = db.session.get_one(Counter, counter_id, with_for_update=True)
            counter.value += 1

        increment()

    @app.post("/async/locked/{counter_id}")
    async def increment_locked_async(counter_id: int) -> None:
        @db.transaction(retries=10)
        async def increment() -> None:
            counter = await db.async_session.get_one(Counter, counter_id, with_for_update=True)
            counter.value += 1

        await increment()

    @app.post("/sync/deadlock/{first}/{second}")
    def deadlock(first: int, second: int) -> int:
        attempts = 0

        @db.transaction(retries=3)
        def both() -> None:
            nonlocal attempts
            attempts += 1
            if DIALECT == "postgresql":
                db.session.execute(NOTICE_SOON)
            db.session.execute(add_one(first))
            if attempts == 1:
                meeting.wait()
            db.session.execute(add_one(second))

        both()
        return attempts

    @app.post("/async/deadlock/{first}/{second}")
    async def deadlock_async(first: int, second: int) -> int:
        attempts = 0

        @db.transaction(retries=3)
        async def both() -> None:
            nonlocal attempts
            attempts += 1
            if DIALECT == "postgresql":
                await db.async_session.execute(NOTICE_SOON)
            await db.async_session.execute(add_one(first))
            if attempts == 1:
                await meeting.wait_async()
            await db.async_session.execute(add_one(second))

        await both()
        return attempts

    @app.post("/sync/skew/{read}/{written}")
    def skew_pair(read: int, written: int) -> int:
        attempts = 0

        @db.transaction(retries=3)
        def work() -> None:
            nonlocal attempts
            attempts += 1
            db.session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
            seen = db.session.scalar(sa.select(Counter.value).where(Counter.id == read))
            if attempts == 1:
                meeting.wait()
            value = (seen or 0) + 1
            db.session.execute(sa.update(Counter).where(Counter.id == written).values(value=value))

        work()
        return attempts

    @app.post("/async/skew/{read}/{written}")
    async def skew_pair_async(read: int, written: int) -> int:
        attempts = 0

        @db.transaction(retries=3)
        async def work() -> None:
            nonlocal attempts
            attempts += 1
            await db.async_session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
            seen = await db.async_session.scalar(sa.select(Counter.value).where(Counter.id == read))
            if attempts == 1:
                await meeting.wait_async()
            value = (seen or 0) + 1
            await db.async_session.execute(sa.update(Counter).where(Counter.id == written).values(value=value))

        await work()
        return attempts


NOTICE_SOON = sa.text("SET LOCAL deadlock_timeout = '10ms'")


def add_one(counter_id: int) -> sa.Update:
    return sa.update(Counter).where(Counter.id == counter_id).values(value=Counter.value + 1)


class Meeting:
    """Two transactions wait here for each other, so that they collide; SQLite lets only one of them come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], object]] = []

    def _meet(self, come: Callable[[], object]) -> None:
        with self._lock:
            self._waiting.append(come)
            if len(self._waiting) < 2:
                return
            both, self._waiting = self._waiting, []
        for each in both:
            each()

    def wait(self) -> None:
        met = threading.Event()
        self._meet(met.set)
        if DIALECT != "sqlite":
            met.wait(5)

    async def wait_async(self) -> None:
        loop, met = asyncio.get_running_loop(), asyncio.Event()
        self._meet(functools.partial(loop.call_soon_threadsafe, met.set))
        if DIALECT != "sqlite":
            await asyncio.wait_for(met.wait(), 5)


def middleware_app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    add_shared_routes(app)
    for router in routes("middleware"):
        app.include_router(router)
    add_conflict_routes(app)
    for kind in ("sync", "async"):
        app.include_router(
            CRUDRouter(
                Versioned,
                db=db,
                prefix=f"/crud/{kind}/versioned",
                operations=("read", "update"),
                require_if_match=True,
                use_async=kind == "async",
            )
        )

    @app.get("/session", response_model=list[ItemOut])
    def by_session() -> list[Item]:
        return list(db.session.scalars(sa.select(Item).limit(10)))

    @app.get("/query", response_model=list[ItemOut])
    def by_query() -> list[Item]:
        return Item.query.limit(10).all()

    @app.get("/session-async", response_model=list[ItemOut])
    async def by_async_session() -> list[Item]:
        return list(await db.async_session.scalars(sa.select(Item).limit(10)))

    @app.get("/stream")
    def stream(rows: int = 50) -> StreamingResponse:
        def lines() -> Iterator[str]:
            for number in range(rows):
                yield f"{number} {db.session.scalar(sa.select(sa.func.count()).select_from(Item))}\n"

        return StreamingResponse(lines())

    @app.get("/stream-slow")
    def stream_slow() -> StreamingResponse:
        def lines() -> Iterator[str]:
            yield "soon\n"
            db.session.execute(sleep(20_000))
            yield "done\n"

        return StreamingResponse(lines())

    @app.get("/stream-async")
    async def stream_async(rows: int = 50) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            for number in range(rows):
                yield f"{number} {await db.async_session.scalar(sa.select(sa.func.count()).select_from(Item))}\n"
                await asyncio.sleep(0)

        return StreamingResponse(lines())

    @app.post("/later", status_code=202)
    async def later(new: NewItem, tasks: BackgroundTasks) -> None:
        def store() -> None:
            db.session.add(Item(name=new.name))

        tasks.add_task(store)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        async for name in websocket.iter_text():
            db.session.add(Item(name=name))
            db.session.commit()
            await websocket.send_text(name)

    return app


def dependency_app() -> FastAPI:
    app = FastAPI()
    add_shared_routes(app)
    for router in routes("dependency"):
        app.include_router(router)

    @app.get("/session", response_model=list[ItemOut])
    def by_session(session: Session = Depends(db.get_session)) -> list[Item]:
        return list(session.scalars(sa.select(Item).limit(10)))

    @app.get("/session-async", response_model=list[ItemOut])
    async def by_async_session(session: AsyncSession = Depends(db.get_async_session)) -> list[Item]:
        return list(await session.scalars(sa.select(Item).limit(10)))

    for kind in ("sync", "async"):
        app.include_router(
            CRUDRouter(
                Item, db=db, prefix=f"/crud/{kind}/items", operations=("list", "read"), use_async=kind == "async"
            )
        )
    return app


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    db.create_all()
    yield
    await db.adispose()


app = FastAPI(lifespan=lifespan)
app.mount("/middleware", middleware_app())
app.mount("/dependency", dependency_app())


@app.get("/release")
async def release() -> None:
    """Let those go who hold a connection, and have the next ones wait for the next release."""
    released.append(threading.Event())
    released[-2].set()


@app.get("/checked-out")
async def checked_out() -> int:
    """How many connections are out of their pools now."""
    return sum(getattr(engine.pool, "checkedout", int)() for engine in live_engines())
