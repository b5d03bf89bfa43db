"""``make reliability``: the reliability tests in their full size, line by line, and the table of what they saw.

Each line of the scorecard is a run of pytest of its own with a bound in time. The figures go to
``docs/reliability.json`` and ``docs/reliability.md``; lines that were not run this time keep what they had, and so
do the variants that ``--matching`` leaves out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PEERS = "peers/test_peers.py"
MALFORMED = "../rest/test_malformed.py"

LINES: dict[str, tuple[str, str, str]] = {
    "R1": ("kill -9 of the server under 12 writers", "test_crashes.py", "r1_"),
    "R2": ("the same, killing the database", "test_outages.py", "r2_"),
    "R3": ("POST, then GET that id at once on another connection", f"test_answers.py {PEERS}", "r3_ or r3-"),
    "R4": ("COMMIT fails", f"test_answers.py {PEERS}", "r4_ or r4-"),
    "R5": ("any answer of 400 or more", f"test_answers.py {PEERS}", "r5_ or r5-"),
    "R6": ("the n-th driver call fails, for every n", "test_faults.py", "r6_"),
    "R7": ("counter increments by 32 clients", "test_counters.py", "r7_"),
    "R8": ("deadlock and serialization pairs with `transaction(retries=3)`", "test_conflicts.py test_galera.py", "r8_"),
    "R9": ("a TCP proxy cuts the reply to COMMIT", "test_proxy.py", "r9_"),
    "R11": (
        "1,000 concurrent clients on a pool of 5, `def` routes",
        f"test_crowds.py {PEERS}",
        "middleware or dependency or r11-",
    ),
    "R12": ("the same, `async def` routes", "test_crowds.py", "async"),
    "R13": ("ten times the load that the pool carries", "test_overload.py", "r13_"),
    "R14": ("clients reset the connection at a random point", f"test_disconnects.py {PEERS}", "r14_ or r14-"),
    "R15": ("reset during a slow query on a safe method", "test_departures.py test_given_up.py", "r15_"),
    "R16": ("cancelled at every await point", "test_cancellation.py", "r16_"),
    "R17": ("database restart with an idle pool", "test_outages.py", "r17_"),
    "R18": ("database restart under load", "test_outages.py", "r18_"),
    "R19": ("a random backend terminated every 100 ms", "test_outages.py", "r19_"),
    "R20": ("backends frozen by SIGSTOP", "test_outages.py", "r20_"),
    "R22": ("a replica is promoted, the old primary read-only", "test_failover.py test_mariadb_replicas.py", "r22_"),
    "R23": ("a replica is paused or dead", "test_replicas.py test_mariadb_replicas.py", "r23_"),
    "R24": ("PgBouncer, transaction mode, pool of 2, 100 tasks", "test_pgbouncer.py", "r24_"),
    "R25": ("SQLite, 4 processes of 16 writers", "test_crashes.py", "r25_"),
    "R26": ("malformed requests to every generated route", MALFORMED, "r26_"),
    "R27": ("schemathesis, all checks, all generated routers", "../rest/test_openapi.py", "r27_"),
    "R28": ("Hypothesis state machine: a dictionary against the API", "../rest/test_model_of_the_api.py", "r28_"),
    "R29": ("a list of 10^6 rows as CSV and as NDJSON", "../rest/test_lists.py", "r29_"),
    "R30": ("refused requests", MALFORMED, "r30_"),
    "R31": ("SIGTERM under load", "test_crashes.py", "r31_"),
    "R33": ("fork with a live pool", "test_processes.py", "r33_"),
    "R34": ("event loops in turn", "test_processes.py", "r34_"),
    "R35": ("8 upgrades at once, and one that was killed", "../migrations/test_migrations.py", "r35_"),
    "R36": ("misuse", "test_misuse.py", ""),
    "R37": ("two databases, two applications, interleaved", "test_twins.py", ""),
}
"""Of each line: what it does, the files of its tests, and what their names have in common."""

INTRODUCTION = """# Reliability

What the tests in `tests/reliability/` saw when they were run in their larger forms.
`make reliability` runs them all, `make reliability ARGS="--only R1,R20"` some of them, `--matching` some variants.
The table is written by the run; lines that were not run keep what they had.
A failure is what the line forbids, such as an acknowledged write that is lost, or a 2xx that is not true.
`n` is how often the fault was made, and `seed` repeats the random choices (`RELIABILITY_SEED`).
p50 and p99 are seconds as the clients saw them.
Repeated turns of one variant are one row: the sums of n and of the failures, the median p50, the worst other time.
The load is the average of the last five minutes of the run, on two cores.
The size is the share of the full count that was asked for; the counts that are part of `make test` are called small.
R3, R4, R5, R11 and R14 stand there for other packages too, all behind the same small application on PostgreSQL.
For those a failure of R4 is a 2xx that is not true, a row that is kept, or a request without an answer in 30 seconds.
Most times were taken on a machine that did other work as well, so that they are upper bounds; without a load in the
row, it was not written down.

What a failure in the table is, where another package has one:

- R4, fastapi-sqlalchemy 0.2.1: a request without an answer in 30 seconds.
- R5, fastapi-sqlalchemy 0.2.1: each row of an answer of 409 was kept.
- R11, fastapi-sqlalchemy 0.2.1 and tutorial code: no client had an answer in 30 seconds. All threads of the pool of
  threads wait for a connection, and those who hold one wait for a thread.
- R14, fastapi-sqlalchemy 0.2.1 and tutorial code: connections that were still out at the end.

SQLite has no row of R13: it answers as fast as the processor does, and there is no pool to be waited for.
The query of R15 computes on MariaDB, as MariaDB 10.11 itself may take two seconds to end a SLEEP: with plain PyMySQL
alone it did so for 17 of 300 pairs that were killed at once, and for none of 150 pairs that computed.

Ten children at a time are forked in R33: a hundred at once take all the hundred connections that PostgreSQL has, and
eleven of them were refused with "too many clients".

"""


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it would be ignored by pytest, too
    arguments = _arguments()
    wanted = [line.strip().upper() for line in arguments.only.split(",") if line.strip()] or list(LINES)
    if unknown := [line for line in wanted if line not in LINES]:
        print(f"There is no line {', '.join(unknown)}. The lines are: {', '.join(LINES)}.")
        return 2
    as_json, as_markdown = arguments.docs / "reliability.json", arguments.docs / "reliability.md"
    failed: list[str] = []
    for line in wanted:
        outcome, entries, seconds = run(line, arguments.size, arguments.seconds, arguments.matching)
        print(
            f"{line:4} {outcome:12} {seconds:6.0f} s  {sum(entry['failures'] for entry in entries)} failures",
            flush=True,
        )
        failed += [line] if outcome != "passed" else []
        results: dict[str, Any] = json.loads(as_json.read_text()) if as_json.exists() else {}
        about = {"size": arguments.size, "load": round(os.getloadavg()[1], 1)}
        figures = [{**_rounded(entry), **about} for entry in entries if entry["line"] == line]
        kept = _kept(results.get(line), figures) if arguments.matching else []
        results[line] = {
            "outcome": "failed" if any(entry["failures"] for entry in kept) else outcome,
            "seconds": round(seconds),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "system": f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} cores",
            "figures": sorted(kept + figures, key=lambda entry: str(entry["variant"])),
        }
        results = {name: results[name] for name in sorted(results, key=lambda name: int(name[1:]))}
        as_json.write_text(json.dumps(results, indent=1) + "\n")
        as_markdown.write_text(table(results))
    return int(bool(failed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make reliability", description=__doc__)
    parser.add_argument("--only", default="", help="lines of the scorecard, with commas: R1,R20")
    parser.add_argument("--matching", default="", help="tests of these lines alone, as pytest -k: mariadb")
    parser.add_argument("--size", default="full", help='"small", "full", or a share of the full count such as 0.1')
    parser.add_argument("--seconds", type=float, default=1800, help="the bound of each line")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="the folder of the table")
    return parser.parse_args()


def _kept(before: dict[str, Any] | None, figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of the variants that a part of a line's tests did not see."""
    seen = {entry["variant"] for entry in figures}
    return [entry for entry in (before or {"figures": []})["figures"] if entry["variant"] not in seen]


def run(line: str, size: str, bound: float, matching: str = "") -> tuple[str, list[dict[str, Any]], float]:
    """Run a line's tests: passed, failed, skipped or unfinished, what they recorded, and how many seconds it took."""
    _, files, names = LINES[line]
    names = " and ".join(f"({part})" for part in (names, matching) if part)
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
        command += [f"tests/reliability/{file}" for file in files.split()] + (["-k", names] if names else [])
        begun = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "RELIABILITY": size, "RELIABILITY_PEERS": "1", "RELIABILITY_FIGURES": str(figures)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        output, outcome = _wait(process, bound)
        seconds = time.monotonic() - begun
        entries: list[dict[str, Any]] = json.loads(figures.read_text()) if figures.exists() else []
    if outcome == "failed":
        print(output)
    return outcome if entries or outcome != "passed" else "skipped", entries, seconds


def _wait(process: subprocess.Popen[str], bound: float) -> tuple[str, str]:
    """An interrupt lets pytest stop its servers and write what it has seen so far; what it leaves is killed."""
    try:
        output, _ = process.communicate(timeout=bound)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
        process.send_signal(signal.SIGINT)
        output = ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            output, _ = process.communicate(timeout=60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if isinstance(error, KeyboardInterrupt):
            raise
        return output, "unfinished"
    return output, "passed" if process.returncode == 0 else "failed"


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in entry.items()}


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = ["| line | test | variant | size | load | n | seed | failures | p50 | p99 | more |", "|" + "---|" * 11]
    for line, result in results.items():
        nothing = [{"variant": result["outcome"], "size": "", "n": "", "failures": ""}]
        for entry in _by_variant(result["figures"]) or nothing:
            known = {"line", "variant", "n", "seed", "failures", "p50", "p99", "size", "load"}
            more = ", ".join(
                f"{name} {value}" for name, value in entry.items() if name not in known and value is not None
            )
            note = f"**{result['outcome']}** " if _is_told_of(result, entry) else ""
            cells = [
                line,
                LINES[line][0],
                entry["variant"],
                entry["size"],
                entry.get("load", ""),
                entry["n"],
                _cell(entry.get("seed")),
                entry["failures"],
                _cell(entry.get("p50")),
                _cell(entry.get("p99")),
                note + more,
            ]
            rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    systems = sorted({f"{result['system']}, {result['date']}" for result in results.values()})
    return INTRODUCTION + "\n".join(rows) + "\n\nRun on: " + "; ".join(systems) + ".\n"


def _is_told_of(result: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether the outcome of a line belongs to this row: to those that failed, or to all where none did."""
    failed = any(each["failures"] for each in result["figures"])
    return result["outcome"] != "passed" and bool(entry["failures"] or not failed)


def _by_variant(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry of each variant: the turns together, with the median of their p50 and the worst of all other times."""
    turns: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        turns.setdefault(entry["variant"], []).append(entry)
    return [same[0] if len(same) == 1 else _together(same) for same in turns.values()]


def _together(turns: list[dict[str, Any]]) -> dict[str, Any]:
    entry = dict(turns[-1])
    for name, value in entry.items():
        values = [turn[name] for turn in turns if isinstance(turn.get(name), (int, float))]
        if name in ("n", "failures"):
            entry[name] = sum(values)
        elif name == "p50":
            entry[name] = statistics.median(values)
        elif isinstance(value, float):
            entry[name] = max(values)
    return {**entry, "turns": len(turns)}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
