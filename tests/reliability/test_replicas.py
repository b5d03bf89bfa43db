"""Reads on replicas: they go there, they see what was written before, and a replica that fails is not noticed."""

from __future__ import annotations

import asyncio
import functools
import gc
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI

from fastapi_sqlalchemy import AsyncSession, ConfigurationError, DBSessionMiddleware, Replica, Session, SQLAlchemy
from fastapi_sqlalchemy.engines.positions import UNKNOWN
from fastapi_sqlalchemy.exceptions import ReadOnlyError
from fastapi_sqlalchemy.rest import CRUDRouter
from fastapi_sqlalchemy.web.position import PositionSigner, watermark_for
from tests.support.caches import empty_caches
from tests.support.client import TestClient
from tests.support.doors import make_database

from .conftest import eventually
from .replication import Primary, Standby

pytestmark = pytest.mark.xdist_group("replication")

DRIVERS = ("sync", "psycopg", "asyncpg")
FILL = "INSERT INTO filler SELECT md5(n::text) FROM generate_series(1, 1000) AS n"


class Bench:
    """One database with its replica, asked by one kind of session."""

    def __init__(self, primary: Primary, replicas: list[Any], driver: str, **options: Any) -> None:
        scheme = "postgresql" if driver == "sync" else f"postgresql+{driver}"
        self.driver = driver
        self.db, self.Item = make_database(primary.url.replace("postgresql", scheme, 1), replicas=replicas, **options)

    def run(self, *works: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
        async def main() -> list[Any]:
            try:
                return [await work() for work in works]
            finally:
                await self.db.adispose()

        return asyncio.run(main())

    async def port(self) -> int:
        """The port of the server that a read-only scope reads from."""
        return int(await self.read(sa.select(sa.func.inet_server_port())))

    async def names(self) -> list[str]:
        return list(await self.read(sa.select(self.Item.name).order_by(self.Item.name), many=True))

    async def read(self, statement: Any, *, many: bool = False) -> Any:
        if self.driver == "sync":
            return await asyncio.to_thread(self._read, statement, many)
        async with self.db.read_only():
            found = await self.db.async_session.scalars(statement)
            return found.all() if many else found.one()

    def _read(self, statement: Any, many: bool) -> Any:
        with self.db.read_only():
            found = self.db.session.scalars(statement)
            return found.all() if many else found.one()

    async def write(self, name: str) -> None:
        if self.driver == "sync":
            await asyncio.to_thread(self._write, name)
            return
        async with self.db.transaction() as session:
            session.add(self.Item(name=name))

    def _write(self, name: str) -> None:
        with self.db.transaction() as session:
            session.add(self.Item(name=name))


def _bench(driver: str, primary: Primary, standby: Standby) -> Iterator[Bench]:
    bench = Bench(primary, [standby.url], driver)
    bench.db.drop_all(confirmed=True)
    bench.db.create_all()
    standby.catch_up()
    yield bench
    standby.resume()
    bench.db.dispose()


@pytest.fixture(params=DRIVERS)
def bench(request: pytest.FixtureRequest, primary: Primary, standby: Standby, patient: None) -> Iterator[Bench]:
    yield from _bench(request.param, primary, standby)


@pytest.fixture(params=DRIVERS)
def hasty(request: pytest.FixtureRequest, primary: Primary, standby: Standby) -> Iterator[Bench]:
    """The same with the bounds as they are, for servers that do not answer."""
    yield from _bench(request.param, primary, standby)


def test_a_read_only_scope_reads_on_the_replica_and_every_other_one_on_the_primary(
    bench: Bench, primary: Primary, standby: Standby
) -> None:
    async def elsewhere() -> int:
        async with bench.db():
            if bench.driver == "sync":
                return int(bench.db.session.scalar(sa.select(sa.func.inet_server_port())) or 0)
            return int(await bench.db.async_session.scalar(sa.select(sa.func.inet_server_port())) or 0)

    assert bench.run(bench.port, elsewhere) == [standby.port, primary.port]
    (status,) = bench.db.replicas.status()
    assert (status.state, status.reads, status.failures, bench.db.replicas.fallbacks) == ("ok", 1, 0, 0)
    assert status.position is not None


def test_a_read_only_scope_is_a_decorator_too(bench: Bench, standby: Standby) -> None:
    @bench.db.read_only()
    def plain() -> int:
        return int(bench.db.session.scalar(sa.select(sa.func.inet_server_port())) or 0)

    @bench.db.read_only()
    async def asynchronous() -> int:
        return int(await bench.db.async_session.scalar(sa.select(sa.func.inet_server_port())) or 0)

    assert plain() == standby.port
    assert plain() == standby.port
    assert bench.run(asynchronous) == [standby.port]


def test_r23_what_was_written_is_read_whether_the_replica_has_it_or_not(
    bench: Bench, standby: Standby, primary: Primary, size: Callable[[int, int], int], figure: Any
) -> None:
    n, misses = size(20, 400), 0

    async def write_and_read() -> None:
        nonlocal misses
        for number in range(n):
            await bench.write(f"{number:05}")
            misses += f"{number:05}" not in await bench.names()

    standby.pause()
    bench.run(write_and_read, bench.port)
    behind = bench.db.replicas.fallbacks
    standby.resume()
    bench.run(lambda: until_served(bench, standby))
    figure("R23", variant=f"{bench.driver} paused", n=n, failures=misses, at_the_primary=behind)
    assert (misses, behind) == (0, n + 1)


def test_without_a_write_a_paused_replica_serves_within_its_lag_limit(bench: Bench, standby: Standby) -> None:
    assert bench.run(bench.names) == [[]]
    standby.pause()
    with bench.db.engine.begin() as connection:
        connection.execute(sa.insert(bench.Item).values(name="elsewhere"))
    assert bench.run(bench.names) == [[]]
    standby.resume()
    assert bench.run(bench.names) == [["elsewhere"]]


async def until_served(bench: Bench, standby: Standby) -> None:
    """Read until the replica answers again."""
    give_up = time.monotonic() + 20
    while await bench.port() != standby.port:
        assert time.monotonic() < give_up, bench.db.replicas.status()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["dead", "frozen"])
def test_r23_reads_fall_back_within_a_second_and_return(
    how: str, primary: Primary, standby: Standby, hasty: Bench, size: Callable[[int, int], int], figure: Any
) -> None:
    answers: list[float] = []

    async def timed() -> int:
        begun = time.monotonic()
        port = await hasty.port()
        answers.append(time.monotonic() - begun)
        return port

    async def scenario() -> None:
        await until_served(hasty, standby)
        if how == "dead":
            await asyncio.to_thread(standby.stop, immediately=True)
            try:
                assert {await timed() for _ in range(20)} == {primary.port}
            finally:
                await asyncio.to_thread(standby.start)
        else:
            with standby.frozen():
                ports = await asyncio.gather(*(timed() for _ in range(5)))
                assert {*ports, *[await timed() for _ in range(15)]} == {primary.port}
        (status,) = hasty.db.replicas.status()
        assert (status.state, status.failures >= 1) == ("down", True)
        await until_served(hasty, standby)

    for _ in range(size(1, 20)):
        hasty.run(scenario)
    slow = [seconds for seconds in answers if seconds >= 1]
    figure("R23", variant=f"{hasty.driver} {how}", n=len(answers), failures=len(slow), slowest=max(answers))
    assert max(answers) < 5


def test_r23_a_statement_on_a_replica_that_freezes_is_run_at_the_primary(
    hasty: Bench, primary: Primary, standby: Standby, size: Callable[[int, int], int], figure: Any
) -> None:
    slow = sa.select(sa.func.inet_server_port(), sa.func.pg_sleep(0.35))
    took: list[float] = []

    async def frozen_below() -> int:
        reading = asyncio.create_task(hasty.read(slow))
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
        while not await asyncio.to_thread(standby.run, asked):
            await asyncio.sleep(0.01)
        with standby.frozen():
            begun = time.monotonic()
            port = int(await reading)
            took.append(time.monotonic() - begun)
        return port

    for turn in range(size(1, 20)):
        if turn:
            hasty.run(functools.partial(until_served, hasty, standby))
        assert hasty.run(frozen_below) == [primary.port]
    late = [seconds for seconds in took if seconds >= 1 + 0.35]  # a second, and the statement itself once more
    figure("R23", variant=f"{hasty.driver} in a statement", n=len(took), failures=len(late), slowest=max(took))
    assert max(took) < 10
    assert hasty.db.replicas.status()[0].failures >= 1


def test_a_slow_statement_goes_on_while_the_server_greets(bench: Bench, standby: Standby) -> None:
    slow = sa.select(sa.func.inet_server_port(), sa.func.pg_sleep(0.5))
    assert bench.run(lambda: bench.read(slow)) == [standby.port]
    assert bench.db.replicas.status()[0].failures == 0


def test_a_replica_beyond_its_lag_limit_is_left_out(primary: Primary, standby: Standby, bench: Bench) -> None:
    limited = Bench(primary, [Replica(standby.url, max_lag_bytes=1000)], bench.driver)
    standby.pause()
    primary.run("CREATE TABLE IF NOT EXISTS filler (x text)", FILL)
    standby._wait_for(f"SELECT pg_last_wal_receive_lsn() >= '{primary.position()}'")
    assert limited.run(limited.port) == [primary.port]
    assert limited.db.replicas.status()[0].state == "lagging"
    standby.resume()
    limited.db.replicas.servers[0]._checked_at = 0
    assert limited.run(limited.port) == [standby.port]


def test_a_replica_that_was_restarted_is_level_with_a_primary_that_rests(
    primary: Primary, standby: Standby, patient: None
) -> None:
    primary.run("CREATE TABLE IF NOT EXISTS filler (x text)", FILL)
    standby.catch_up()
    told = "SELECT pg_last_wal_receive_lsn() < pg_last_wal_replay_lsn() FROM pg_stat_wal_receiver"
    behind = False
    for _ in range(20):  # its receiver most often begins with the segment, and gets nothing new
        standby.stop(immediately=True)
        standby.start()
        assert eventually(lambda: standby.run(told) is not None)
        if behind := bool(standby.run(told)):
            break
    assert behind
    bench = Bench(primary, [Replica(standby.url, max_lag=0.2)], "sync")
    time.sleep(0.5)
    assert bench.run(bench.port) == [standby.port]
    (status,) = bench.db.replicas.status()
    assert (status.state, status.lag_seconds, status.lag_bytes) == ("ok", 0, 0)
    bench.db.dispose()


def test_weights_share_the_reads_and_the_password_is_in_no_figure(
    primary: Primary, standby: Standby, patient: None
) -> None:
    secret = standby.url.replace("postgres@", "postgres:hidden@")
    bench = Bench(primary, [(secret, 3), Replica(standby.url, weight=1)], "sync")

    async def read() -> None:
        for _ in range(200):
            await bench.port()

    bench.run(read)
    heavy, light = bench.db.replicas.status()
    assert (heavy.weight, light.weight, heavy.reads + light.reads) == (3, 1, 200)
    assert heavy.reads > light.reads > 0
    assert "hidden" not in f"{bench.db.replicas!r}{bench.db.replicas.status()}{bench.db.source.config!r}{bench.db!r}"


def test_a_write_in_a_read_only_scope_is_refused_and_reaches_no_server(bench: Bench) -> None:
    with bench.db.read_only(), pytest.raises(ReadOnlyError):
        bench.db.session.add(bench.Item(name="no"))
        bench.db.session.flush()
    with bench.db.read_only(), pytest.raises(sa.exc.DBAPIError, match="read-only"):
        bench.db.session.execute(sa.text("INSERT INTO item (name) VALUES ('no')"))
    assert bench.run(bench.names) == [[]]


def test_isolated_reads_stay_on_the_one_connection(bench: Bench) -> None:
    with bench.db.isolated():
        bench._write("inside")
        with bench.db.read_only():
            assert bench.db.session.scalars(sa.select(bench.Item.name)).all() == ["inside"]
    assert bench.run(bench.names) == [[]]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_replica_may_be_the_only_server(driver: str, standby: Standby) -> None:
    """A URL with one host means that host, whether it takes writes or not."""
    alone = Bench(standby, [], driver)
    assert alone.run(alone.port, alone.port) == [standby.port] * 2
    assert len(alone.db.replicas) == 0
    assert alone.db.replicas.status() == []


@pytest.mark.parametrize(
    "replicas", [["sqlite:///other.db"], [("postgresql://127.0.0.1/app", 0)], "postgresql://127.0.0.1/app"]
)
def test_replicas_that_cannot_be_are_refused(replicas: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"[Rr]eplica"):
        SQLAlchemy("postgresql://127.0.0.1/app", replicas=replicas)


def test_replicas_and_a_creator_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="creator"):
        SQLAlchemy("postgresql://one/app", replicas=["postgresql://two/app"], engine_args={"creator": object})


def test_a_database_that_nobody_refers_to_is_gone_with_its_replicas(
    primary: Primary, standby: Standby, patient: None
) -> None:
    def use() -> list[Any]:
        bench = Bench(primary, [standby.url], "sync")
        assert bench._read(sa.select(sa.func.inet_server_port()), many=False) == standby.port
        (server,) = bench.db.replicas.servers
        return [weakref.ref(each) for each in (bench.db, bench.db.source, server, server.source, server._watchdog)]

    references = use()
    empty_caches()
    assert eventually(lambda: gc.collect() >= 0 and all(reference() is None for reference in references))


# Requests: the token.


def _spoiled(token: str) -> list[str]:
    """The token with one character changed, in its payload and in its signature."""
    places = (0, token.rindex(".") + 1)
    return [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in places]


@pytest.fixture
def app(bench: Bench) -> FastAPI:
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=bench.db)
    use_async = None if bench.driver != "sync" else False
    app.include_router(CRUDRouter(bench.Item, db=bench.db, use_async=use_async, prefix="/items"))
    return app


def test_generated_get_routes_read_on_the_replica_and_a_client_reads_its_own_writes(
    bench: Bench, app: FastAPI, standby: Standby
) -> None:
    with TestClient(app) as client:
        assert client.get("/items").json() == []
        assert bench.db.replicas.status()[0].reads >= 1
        standby.pause()
        answer = client.post("/items", json={"name": "mine"})
        token = answer.headers["X-DB-Position"]
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"db_position={token};")
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        path = answer.headers["Location"]
        assert client.get(path).status_code == 200
        assert [item["name"] for item in client.get("/items").json()] == ["mine"]
        client.cookies.clear()
        assert client.get(path).status_code == 404  # a stranger, who reads on the replica
        assert client.get(path, headers={"X-DB-Position": token}).status_code == 200
        for forged in (*_spoiled(token), "x", "é" * 900, "..", "a.b.c"):
            assert client.get(path, headers={"X-DB-Position": forged.encode()}).status_code == 404
        standby.resume()
        assert client.get(path).status_code == 200


def test_a_dependency_gives_a_session_that_reads_on_the_replica_and_sees_what_the_request_wrote(
    bench: Bench, app: FastAPI, standby: Standby, primary: Primary
) -> None:
    port = sa.select(sa.func.inet_server_port())
    db, Item = bench.db, bench.Item

    @app.get("/ports")
    async def ports(
        plain: Session = Depends(db.get_read_only_session),
        other: AsyncSession = Depends(db.get_async_read_only_session),
    ) -> list[Any]:
        return [await asyncio.to_thread(plain.scalar, port), await other.scalar(port), db.session.scalar(port)]

    @app.post("/written")
    def written(session: Session = Depends(db.get_read_only_session)) -> list[str]:
        with db.transaction() as own:
            own.add(Item(name="in this request"))
        return list(session.scalars(sa.select(Item.name)))

    @app.post("/refused")
    def refused(session: Session = Depends(db.get_read_only_session)) -> None:
        session.add(Item(name="no"))
        session.flush()

    with TestClient(app) as client:
        assert client.get("/ports").json() == [standby.port, standby.port, primary.port]
        standby.pause()
        answer = client.post("/written")
        assert answer.json() == ["in this request"]
        assert "X-DB-Position" in answer.headers
        standby.resume()
        with pytest.raises(ReadOnlyError):
            client.post("/refused")


def test_an_answer_that_wrote_nothing_carries_no_position_and_one_that_failed_neither(
    bench: Bench, app: FastAPI
) -> None:
    with TestClient(app) as client:
        assert client.post("/items", json={"name": "once"}).headers["X-DB-Position"]
        for answer in (client.get("/items"), client.post("/items", json={"name": "once"}), client.get("/items/9999")):
            assert "X-DB-Position" not in answer.headers
            assert "set-cookie" not in answer.headers


def test_a_token_of_another_process_is_read_at_the_primary_unless_the_key_is_shared(
    bench: Bench, standby: Standby
) -> None:
    def signed_elsewhere(key: str | None) -> str:
        signer = PositionSigner(key)
        if key is None:
            signer = PositionSigner("the random key of another process")
        return signer.sign({signer.name_of(bench.db.source): "0/1"})

    def wanted(source: Any, token: str) -> str:
        return str(watermark_for(source, {"headers": [(b"x-db-position", token.encode())]}))

    shared = SQLAlchemy(bench.db.url, replicas=[standby.url], position_key="shared by all workers")
    assert wanted(shared.source, signed_elsewhere("shared by all workers")) == "0/1"
    assert wanted(shared.source, signed_elsewhere("another")) == ""
    assert wanted(bench.db.source, signed_elsewhere(None)) == UNKNOWN
    assert "shared by all workers" not in f"{shared!r}{shared.source.config!r}"
