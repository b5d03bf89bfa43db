"""``make benchmark``: interleaved rounds of every contender, medians and ratios, as a table, JSON and a picture."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.load import Sample, Server
from benchmarks.models import empty, fill

CONTENDERS = ("tutorial_sync", "tutorial_async", "ours_middleware", "ours_dependency", "ours_async", "bare")
ROUTES = {"no database": "/plain", "read one": "/users/500", "list of 100": "/users?limit=100"}
BASE = "tutorial_sync"
Table = dict[str, dict[str, list[Sample]]]


def measure(
    url: str, contenders: list[str], *, rounds: int, seconds: float, clients: int
) -> tuple[Table, dict[str, int]]:
    """Samples by route and contender, and the peak memory of each contender in KiB."""
    fill(url)
    log = Path(tempfile.mkstemp(prefix="benchmark-", suffix=".log")[1])
    servers: dict[str, Server] = {}
    samples: Table = {route: {} for route in ROUTES}
    try:
        for name in contenders:
            servers[name] = Server(name, url, log)
        _check_answers(servers)
        for _ in range(rounds):
            for route, path in ROUTES.items():
                for name, server in servers.items():
                    if name == "bare" and path != "/plain":
                        continue
                    sample = server.load(path, seconds=seconds, clients=clients)
                    samples[route].setdefault(name, []).append(sample)
                    print(f"  {route:12} {name:18} {sample.rate:9.0f}/s {sample.cpu * 1e6:7.0f} us", file=sys.stderr)
        memory = {name: server.peak_memory() for name, server in servers.items()}
    finally:
        for server in servers.values():
            server.stop()
        empty(url)
    return samples, memory


def _check_answers(servers: dict[str, Server]) -> None:
    for path in ROUTES.values():
        answers = {
            name: json.loads(server.get(path)) for name, server in servers.items() if path == "/plain" or name != "bare"
        }
        expected = answers[BASE]
        for name, answer in answers.items():
            if answer != expected:
                raise SystemExit(f"{name} answers {path} differently from {BASE}; nothing was measured.")


def summarise(samples: Table) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by route and contender, with the ratios to the tutorial's code."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for route, by_name in samples.items():
        base = by_name["bare"] if route == "no database" else by_name[BASE]
        base_rate = statistics.median(sample.rate for sample in base)
        base_cpu = statistics.median(sample.cpu for sample in base)
        result[route] = {}
        for name, taken in by_name.items():
            rates = [sample.rate for sample in taken]
            cpu = statistics.median(sample.cpu for sample in taken)
            result[route][name] = {
                "rate": statistics.median(rates),
                "spread": (max(rates) - min(rates)) / statistics.median(rates),
                "rate_ratio": statistics.median(rates) / base_rate,
                "cpu_us": cpu * 1e6,
                "cpu_ratio": base_cpu / cpu,
                "p50_ms": statistics.median(sample.p50 for sample in taken) * 1e3,
                "p99_ms": statistics.median(sample.p99 for sample in taken) * 1e3,
                "errors": sum(sample.errors for sample in taken),
            }
    return result


def table(database: str, summary: dict[str, dict[str, dict[str, float]]]) -> str:
    """The summary of one database as Markdown."""
    lines = [
        f"### {database}",
        "",
        "| route | contender | requests/s | ratio | CPU us/request | CPU ratio | p50 ms | p99 ms | spread | errors |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for route, by_name in summary.items():
        for name, row in by_name.items():
            lines.append(
                f"| {route} | {name} | {row['rate']:.0f} | {row['rate_ratio']:.2f} | {row['cpu_us']:.0f} | "
                f"{row['cpu_ratio']:.2f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['spread']:.0%} | "
                f"{row['errors']:.0f} |"
            )
    return "\n".join(lines)


def plot(results: dict[str, dict[str, dict[str, dict[str, float]]]], target: Path) -> None:
    """The ratios of requests/s as bars."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    routes = [route for route in ROUTES if route != "no database"]
    figure, axes = plt.subplots(len(results), len(routes), figsize=(6 * len(routes), 3.2 * len(results)), squeeze=False)
    for line, (database, summary) in zip(axes, results.items(), strict=True):
        for axis, route in zip(line, routes, strict=True):
            names = list(summary[route])
            values = [summary[route][name]["rate_ratio"] for name in names]
            colours = ["#2a78d6" if name.startswith("ours") else "#9a9a94" for name in names]
            bars = axis.barh(names, values, color=colours)
            axis.bar_label(bars, fmt="%.2f", padding=3)
            axis.axvline(1, color="#55554f", linewidth=0.8)
            axis.set_title(f"{database}: {route}")
            axis.set_xlabel("requests/s, ratio to hand-written sync code")
            axis.invert_yaxis()
            axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, dpi=120)


def main() -> None:
    """Run the benchmark and write its table, JSON and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--url", action="append", default=[], help="a database; SQLite alone by default")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, comma separated")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed. On Debian: apt-get install wrk")
    contenders = options.only.split(",")
    results: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for url in options.url or [f"sqlite:///{folder}/benchmark.db"]:
            database = url.partition(":")[0]
            print(f"{database}: {options.rounds} rounds of {len(contenders)} contenders", file=sys.stderr)
            samples, memory[database] = measure(
                url, contenders, rounds=options.rounds, seconds=options.seconds, clients=options.clients
            )
            results[database] = summarise(samples)
    options.output.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(table(database, summary) for database, summary in results.items())
    print(text)
    (options.output / "results.md").write_text(text + "\n")
    document = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "clients": options.clients,
        "python": platform.python_version(),
        "memory_kib": memory,
        "results": results,
    }
    (options.output / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    plot(results, options.output / "results.png")


if __name__ == "__main__":
    main()
