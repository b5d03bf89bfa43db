"""``make benchmark``: interleaved rounds of every contender on every database; a table, a JSON and pictures of them.

make benchmark                                    SQLite and PostgreSQL, every contender, growth too
make benchmark ARGS="--rounds 2 --seconds 1"      a shortened whole, about ten minutes
make benchmark ARGS="--all"                       MariaDB too
make benchmark ARGS="--only tutorial_sync,ours_router --works 'read one,create' --no-growth"
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


def measure(url: str, chosen: list[Contender], options: argparse.Namespace) -> tuple[Samples, dict[str, int]]:
    """Samples by work and contender, and the peak memory of each contender in KiB."""
    backend = url.partition(":")[0]
    fill(url)
    log = Path(tempfile.mkstemp(prefix="benchmark-", suffix=".log")[1])
    samples: Samples = {work: {} for work in options.works}
    with ExitStack() as stack:
        stack.callback(empty, url)
        servers: dict[str, Server] = {}
        for contender in chosen:
            python = python_of(contender) if backend in contender.databases else None
            if python is None:
                continue
            servers[contender.name] = server = Server(contender.name, url, log, python)
            stack.callback(server.stop)
        check_answers(servers, options.works)
        for number in range(options.rounds):
            for work in options.works:
                order = [name for name in servers if work in CONTENDERS[name].paths]
                for name in order[number % len(order) :] + order[: number % len(order)]:
                    sample = servers[name].load(
                        CONTENDERS[name].paths[work],
                        seconds=options.seconds,
                        clients=options.clients,
                        script=CREATE if work == "create" else None,
                    )
                    samples[work].setdefault(name, []).append(sample)
                    if work == "create":
                        forget_new_rows(url)
                print(f"  {backend} round {number + 1}: {work}", file=sys.stderr)
        memory = {name: server.peak_memory() for name, server in servers.items()}
    return samples, memory


def check_answers(servers: dict[str, Server], works: list[str]) -> None:
    """Every contender has to give the rows that the hand-written code gives, and to create one."""
    for work in works:
        expected: Any = None
        for name, server in servers.items():
            path = CONTENDERS[name].paths.get(work)
            if path is None:
                continue
            if work == "create":
                status = server.post(path, NEW % uuid.uuid4().hex.encode())
                if status not in (200, 201):
                    raise SystemExit(f"{name} answers a create with {status}; nothing was measured.")
                continue
            rows = rows_of(json.loads(server.get(path)))
            expected = rows if expected is None else expected
            if rows != expected:
                raise SystemExit(f"{name} answers {path} differently from {BASE}; nothing was measured.")


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
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--database", action="append", default=[], help="sqlite, postgresql, mysql or a URL")
    parser.add_argument("--all", action="store_true", help="MariaDB beside SQLite and PostgreSQL")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, comma separated")
    parser.add_argument("--works", default=",".join(WORKS), help="works, comma separated")
    parser.add_argument("--no-growth", action="store_true", help="leave out what grows: pages, rows, clients, models")
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
    results: dict[str, Any] = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "clients": options.clients,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "memory_kib": {},
        "results": {},
        "growth": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in databases:
            with database(name, Path(folder)) as url:
                backend = url.partition(":")[0]
                samples, results["memory_kib"][backend] = measure(url, chosen, options)
                results["results"][backend] = summarise(samples)
                if not options.no_growth:
                    results["growth"][backend] = growth.measure(url, seconds=options.seconds)
        if not options.no_growth:
            results["growth"]["models"] = growth.models()
    report.write(results, options.output, options.document)


if __name__ == "__main__":
    main()
