"""The results of a run as Markdown, JSON and pictures, and inside of ``docs/performance.md``."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.contenders import BASE, CONTENDERS, WORKS
from benchmarks.targets import Score, scores

__all__ = ["REASONS", "Summary", "scorecard", "write"]

Summary: TypeAlias = dict[str, dict[str, dict[str, float]]]

_START, _END = "<!-- results -->", "<!-- end of results -->"
REASONS = Path(__file__).parent / "reasons.toml"
"""Why a row of the scorecard is not met, by its title and database, written by hand."""
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB"}


def write(results: dict[str, Any], output: Path, document: Path) -> None:
    """Write all forms of the results, and print the table."""
    output.mkdir(parents=True, exist_ok=True)
    text = markdown(results)
    print(text)
    (output / "results.md").write_text(text + "\n")
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    pictures = _plot(results, output)
    if document.exists():
        images = document.parent / "images"
        images.mkdir(exist_ok=True)
        for picture in pictures:
            shutil.copy(picture, images / picture.name)
        links = "\n".join(f"![{picture.stem}](images/{picture.name})" for picture in pictures)
        page = document.read_text()
        head, _, rest = page.partition(_START)
        _, _, tail = rest.partition(_END)
        document.write_text(f"{head}{_START}\n\n{text}\n\n{links}\n\n{_END}{tail}")


def markdown(results: dict[str, Any]) -> str:
    """The tables of a run."""
    lines = [
        f"{results['rounds']} rounds of {results['seconds']:g} s for each work and contender, interleaved, "
        f"{results['clients']} clients, one uvicorn worker, {results['processors']} processors, Python "
        f"{results['python']}.",
        "Ratios are to the hand-written synchronous code of the same run; CPU is that of the server's process.",
        "The spread is that between the fastest and the slowest round, as a share of the median.",
    ]
    if results.get("left_out"):
        lines += ["", "Left out, since it does not run or answers differently: " + "; ".join(results["left_out"]) + "."]
    lines += scorecard(results)
    for backend, summary in results["results"].items():
        lines += ["", f"### {_NAMES.get(backend, backend)}", "", *_table(summary), *_memory(results, backend)]
    growth = results.get("growth") or {}
    for backend, found in growth.items():
        if backend != "models":
            lines += ["", f"### What grows on {_NAMES.get(backend, backend)}", "", *_growth(found)]
    if "models" in growth:
        lines += ["", "### Models", "", *_models(growth["models"])]
    return "\n".join(lines)


def _table(summary: Summary) -> list[str]:
    lines = [
        "| work | contender | requests/s | ratio | spread | CPU µs | CPU ratio | spread | p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for work in (work for work in WORKS if work in summary):
        for name, row in sorted(summary[work].items(), key=lambda item: item[1]["cpu_us"]):
            lines.append(
                f"| {work} | {CONTENDERS[name].title} | {row['rate']:.0f} | {row['rate_ratio']:.2f} | "
                f"{row['rate_spread']:.0%} | {row['cpu_us']:.0f} | {row['cpu_ratio']:.2f} | {row['cpu_spread']:.0%} | "
                f"{row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['errors']:.0f} |"
            )
    return lines


def _memory(results: dict[str, Any], backend: str) -> list[str]:
    memory = results["memory_kib"].get(backend, {})
    base = memory.get(BASE)
    if not base:
        return []
    parts = (f"{CONTENDERS[name].title} {kib / 1024:.0f} MiB ({kib / base:.2f})" for name, kib in memory.items())
    return ["", f"Peak memory: {', '.join(parts)}."]


def scorecard(results: Mapping[str, Any]) -> list[str]:
    """What was aimed at beside what was measured, and why what is not met is not."""
    found = list(scores(results))
    if not found:
        return []
    lines = [
        "",
        "### Aims",
        "",
        "A ratio says how many of our requests take the time, or the CPU, of one of theirs; CPU has the slack of 20 %.",
        "",
        "| aim | database | wanted | requests/s | met | CPU | met |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {score.target.title} | {_NAMES[score.backend]} | "
        f"{'≥' if score.target.is_least else '≤'} {score.wanted:g} | "
        f"{_figure(score.measured.rate)} | {_said(score.is_met)} | "
        f"{_figure(score.measured.cpu)} | {_said(score.is_met_by_cpu)} |"
        for score in found
    ]
    missed = [score for score in found if False in (score.is_met, score.is_met_by_cpu)]
    by_one = [score for score in missed if True in (score.is_met, score.is_met_by_cpu)]
    lines += ["", f"{len(found) - len(missed)} of {len(found)} are met, and {len(by_one)} more by one of the two."]
    reasons = tomllib.loads(REASONS.read_text())
    lines += ["", "What is not met:", "", *(_reason(score, reasons) for score in missed)] if missed else []
    return lines


def _reason(score: Score, reasons: Mapping[str, Any]) -> str:
    said = reasons.get(score.target.title, {})
    reason = said.get(score.backend, said.get("all", "no reason is written down yet."))
    by_cpu = " (met by CPU)" if score.is_met_by_cpu else " (met by requests/s)" if score.is_met else ""
    return f"- {score.target.title}, {_NAMES[score.backend]}{by_cpu}: {reason}"


def _figure(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _said(is_met: bool | None) -> str:
    return "" if is_met is None else "yes" if is_met else "**no**"


def _growth(found: dict[str, Any]) -> list[str]:
    titles = {"depth": "page that starts at row", "page": "rows of a page", "clients": "clients that read one row"}
    lines = ["| what | size | requests/s | CPU µs | p50 ms | p99 ms | errors |", "|---|---|---|---|---|---|---|"]
    for kind, points in found.items():
        for size, point in points.items():
            lines.append(
                f"| {titles[kind]} | {int(size):,} | {point['rate']:.0f} | {point['cpu_us']:.0f} | "
                f"{point['p50_ms']:.1f} | {point['p99_ms']:.1f} | {point['errors']:.0f} |"
            )
    return lines


def _models(found: dict[Any, dict[str, float]]) -> list[str]:
    lines = ["| models | import s | declare s | routers s | first OpenAPI s | all s |", "|---|---|---|---|---|---|"]
    for number, row in found.items():
        cells = " | ".join(f"{row[name]:.2f}" for name in ("import", "models", "routers", "openapi", "all"))
        lines.append(f"| {number} | {cells} |")
    return lines


def _plot(results: dict[str, Any], output: Path) -> list[Path]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    made: list[Path] = []
    for backend, summary in results["results"].items():
        works = [work for work in WORKS if work in summary and work != "no database"]
        if not works:
            continue
        figure, axes = plt.subplots(len(works), 1, figsize=(8, 2.6 * len(works)), squeeze=False)
        for axis, work in zip(axes[:, 0], works, strict=True):
            rows = sorted(summary[work].items(), key=lambda item: item[1]["cpu_ratio"])
            names = [CONTENDERS[name].title.replace("*", "").replace("`", "") for name, _ in rows]
            colours = ["#2a78d6" if CONTENDERS[name].ours else "#9a9a94" for name, _ in rows]
            bars = axis.barh(names, [row["cpu_ratio"] for _, row in rows], color=colours)
            axis.bar_label(bars, fmt="%.1f", padding=3)
            axis.axvline(1, color="#55554f", linewidth=0.8)
            axis.set_title(f"{_NAMES.get(backend, backend)}: {work}", loc="left", fontsize=10)
            axis.spines[["top", "right"]].set_visible(False)
        axes[-1, 0].set_xlabel("requests for the CPU time of one by hand-written synchronous code")
        figure.tight_layout()
        made.append(output / f"performance-{backend}.png")
        figure.savefig(made[-1], dpi=100)
        plt.close(figure)
    grown = {name: found for name, found in (results.get("growth") or {}).items() if name != "models"}
    if grown:
        figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
        for axis, kind in zip(axes, ("depth", "page", "clients"), strict=True):
            for backend, found in grown.items():
                sizes = [int(size) for size in found[kind]]
                axis.plot(sizes, [point["cpu_us"] for point in found[kind].values()], "o-", label=_NAMES.get(backend))
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_title({"depth": "first row of the page", "page": "rows of the page", "clients": "clients"}[kind])
            axis.set_ylabel("CPU µs per request")
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].legend()
        figure.tight_layout()
        made.append(output / "performance-growth.png")
        figure.savefig(made[-1], dpi=100)
        plt.close(figure)
    return made
