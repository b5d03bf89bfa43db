"""``make benchmark``: interleaved rounds of every contender on every database; a table, a JSON and pictures of them.

make benchmark                               SQLite and PostgreSQL, every contender, five rounds: about 12 minutes
make benchmark ARGS="--growth"               what grows, put beside the tables of the last run: about 6 minutes
make benchmark ARGS="--rounds 1"             a shortened whole
make benchmark ARGS="--all"                  MariaDB too
make benchmark ARGS="--only tutorial_sync,ours_router --works 'read one,create'"
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks import growth, report
from benchmarks.contenders import BASE, CONTENDERS, WORKS, Contender, rows_of
from benchmarks.environments import python_of
from benchmarks.load import Sample, Server
from benchmarks.models import empty, fill, forget_new_rows, sync_url

CREATE = Path(__file__).parent / "create.lua"
NEW = b'{"name":"New","email":"n%s-0@example.com","age":30,"city":"Oslo","is_active":true}'
SERVERS = {
    "postgresql": "postgresql://postgres@127.0.0.1:5432/postgres",
    "mysql": "mysql://root@127.0.0.1:3306/mysql",
}
Samples = dict[str, dict[str, list[Sample]]]


@contextmanager
def database(name: str, folder: Path) -> Iterator[str]:
    """The URL of a database of our own, dropped at the end; ``name`` may be a URL, whose tables are made anew."""
    if "://" in name:
        yield name
        return
    if name == "sqlite":
        yield f"sqlite:///{folder}/benchmark.db"
        return
    server = sa.make_url(os.environ.get(f"BENCHMARK_{name.upper()}", SERVERS[name]))
    own = f"fsa_benchmark_{os.getpid()}_{uuid.uuid4().hex[:6]}"
    plain = server.render_as_string(hide_password=False)
    engine = sa.create_engine(sync_url(plain), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {own}")
    try:
        yield server.set(database=own).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {own}{' WITH (FORCE)' if name == 'postgresql' else ''}")


def measure(
    url: str, chosen: list[Contender], options: argparse.Namespace
) -> tuple[Samples, dict[str, int], list[str]]:
    """Samples by work and contender, the peak memory of each contender in KiB, and what was left out."""
    backend = url.partition(":")[0]
    fill(url)
    log = Path(tempfile.mkstemp(prefix="benchmark-", suffix=".log")[1])
    samples: Samples = {work: {} for work in options.works}
    with ExitStack() as stack:
        stack.callback(empty, url)
        between = sa.create_engine(sync_url(url), pool_size=1)
        stack.callback(between.dispose)
        forget_new_rows(between)  # opens its connection before the pools of the contenders take what the server has
        servers, left_out = started([each for each in chosen if backend in each.databases], url, log, stack)
        paths = {name: dict(CONTENDERS[name].paths) for name in servers}
        for name, work, reason in wrong_answers(servers, options.works):
            if CONTENDERS[name].ours or name == BASE:
                raise SystemExit(f"{name}, {work}: {reason}; nothing was measured.")
            left_out.append(f"{CONTENDERS[name].title} on {backend}, {work}: {reason}")
            del paths[name][work]
        for number in range(options.rounds):
            for work in options.works:
                order = [name for name in servers if work in paths[name]]
                for name in order[number % len(order) :] + order[: number % len(order)]:
                    sample = servers[name].load(
                        paths[name][work],
                        seconds=options.seconds,
                        clients=options.clients,
                        script=CREATE if work == "create" else None,
                    )
                    samples[work].setdefault(name, []).append(sample)
                    if work == "create":
                        forget_new_rows(between)
            print(f"  {backend}: round {number + 1} of {options.rounds}", file=sys.stderr)
        memory = {name: server.peak_memory() for name, server in servers.items()}
    return samples, memory, left_out


def started(chosen: list[Contender], url: str, log: Path, stack: ExitStack) -> tuple[dict[str, Server], list[str]]:
    """The servers of the contenders, and which of the others does not run here."""
    servers: dict[str, Server] = {}
    left_out: list[str] = []
    for contender in chosen:
        python = python_of(contender)
        try:
            if python is None:
                raise RuntimeError("its environment cannot be made here")
            servers[contender.name] = Server(contender.name, url, log, python)
        except RuntimeError as error:
            if contender.ours or contender.name == BASE:
                raise
            left_out.append(f"{contender.title}: {error}")
            continue
        stack.callback(servers[contender.name].stop)
    return servers, left_out


def wrong_answers(servers: dict[str, Server], works: list[str]) -> Iterator[tuple[str, str, str]]:
    """Contender, work and reason of each answer that has not the rows of the hand-written code's, or the row posted."""
    for work in works:
        expected: Any = None
        for name, server in servers.items():
            path = CONTENDERS[name].paths.get(work)
            if path is None:
                continue
            try:
                if work == "create":
                    body = NEW % uuid.uuid4().hex.encode()
                    rows = {**rows_of(json.loads(server.post(path, body))), "id": None}
                    expected = {**json.loads(body), "id": None}
                else:
                    rows = rows_of(json.loads(server.get(path)))
                    expected = rows if expected is None else expected
            except OSError as error:
                yield name, work, f"{path} is answered with {error}"
                continue
            if rows != expected:
                yield name, work, f"{path} is answered differently from {BASE}"


def summarise(samples: Samples) -> report.Summary:
    """Medians by work and contender, with the ratios to the hand-written code."""
    result: report.Summary = {}
    for work, by_name in samples.items():
        if not by_name:
            continue
        base = by_name["bare" if work == "no database" and "bare" in by_name else BASE]
        base_rate, base_cpu = _median(base, "rate"), _median(base, "cpu")
        result[work] = {}
        for name, taken in by_name.items():
            rates = [sample.rate for sample in taken]
            cpus = [sample.cpu for sample in taken]
            rate, cpu = statistics.median(rates), statistics.median(cpus)
            result[work][name] = {
                "rate": rate,
                "rate_ratio": rate / base_rate if base_rate else 0.0,
                "rate_spread": (max(rates) - min(rates)) / rate if rate else 0.0,
                "cpu_us": cpu * 1e6,
                "cpu_ratio": base_cpu / cpu,
                "cpu_spread": (max(cpus) - min(cpus)) / cpu,
                "p50_ms": _median(taken, "p50") * 1e3,
                "p99_ms": _median(taken, "p99") * 1e3,
                "errors": float(sum(sample.errors for sample in taken)),
            }
    return result


def _median(samples: list[Sample], name: str) -> float:
    return statistics.median(getattr(sample, name) for sample in samples)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--database", action="append", default=[], help="sqlite, postgresql, mysql or a URL")
    parser.add_argument("--all", action="store_true", help="MariaDB beside SQLite and PostgreSQL")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, comma separated")
    parser.add_argument("--works", default=",".join(WORKS), help="works, comma separated")
    parser.add_argument("--growth", action="store_true", help="only what grows: pages, rows, clients, models")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--document", type=Path, default=Path("docs/performance.md"))
    options = parser.parse_args(arguments)
    options.works = [work for work in WORKS if work in options.works.split(",")]
    return options


def main() -> None:
    """Run the benchmark and write its table, its JSON and its pictures."""
    options = parse()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed. On Debian: apt-get install wrk")
    chosen = [contender for name, contender in CONTENDERS.items() if name in {BASE, *options.only.split(",")}]
    databases = options.database or ["sqlite", "postgresql", *(["mysql"] if options.all else [])]
    known = options.output / "results.json"
    results: dict[str, Any] = json.loads(known.read_text()) if known.exists() else {}
    growth_before = results.get("growth", {})
    if options.growth:
        if not results:
            raise SystemExit(
                f"There is no {known} yet, beside which to put what grows: run the benchmark without --growth."
            )
    else:
        results = {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "clients": options.clients,
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "memory_kib": {},
            "results": {},
            "left_out": [],
        }
    results["growth"] = {} if options.growth else growth_before
    with tempfile.TemporaryDirectory() as folder:
        for name in databases:
            with database(name, Path(folder)) as url:
                backend = url.partition(":")[0]
                if options.growth:
                    results["growth"][backend] = growth.measure(url, seconds=options.seconds)
                    continue
                samples, results["memory_kib"][backend], left_out = measure(url, chosen, options)
                results["results"][backend] = summarise(samples)
                results["left_out"] += left_out
        if options.growth:
            results["growth"]["models"] = growth.models()
    report.write(results, options.output, options.document)


if __name__ == "__main__":
    main()
