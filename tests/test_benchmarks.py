"""The benchmark knows what it measures: each contender has a file, each work a path in the hand-written code."""

from __future__ import annotations

import tomllib
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import BASE, CONTENDERS, WORKS, rows_of
from benchmarks.targets import TARGETS, Grown, Held, scores

FOLDER = Path(__file__).parents[1] / "benchmarks" / "contenders"


def test_each_contender_is_one_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*CONTENDERS, "__init__", "ours_growth"}


def test_the_hand_written_code_does_every_work() -> None:
    assert set(CONTENDERS[BASE].paths) == set(WORKS)
    assert all(set(contender.paths) <= set(WORKS) for contender in CONTENDERS.values())


def test_every_aim_is_about_something_that_is_measured() -> None:
    for target in TARGETS:
        if isinstance(target, (Grown, Held)):
            continue
        assert target.work in CONTENDERS[target.contender].paths
        assert all(target.work in CONTENDERS[name].paths for name in target.against)


def test_answers_are_compared_by_their_rows() -> None:
    row = {"id": 1, "name": "a", "email": "e", "age": 2, "city": "c", "is_active": True}
    assert rows_of([row]) == rows_of({"data": [{**row, "more": 1}], "total": 1}) == rows_of({"items": [row]}) == [row]


def row(rate: float, cpu: float) -> dict[str, float]:
    return {"rate": rate, "cpu_us": cpu, "p99_ms": 1.0}


def test_an_aim_is_met_by_requests_and_by_cpu_with_its_slack() -> None:
    one = {"tutorial_sync": row(100, 1000), "ours_router": row(790, 150)}
    found = {
        score.target.title: score for score in scores({"results": {"sqlite": {"read one": one}}, "memory_kib": {}})
    }
    score = found["read one: CRUDRouter to hand-written sync"]
    assert (score.wanted, score.is_met, score.is_met_by_cpu) == (8, False, True)


def test_an_aim_that_is_not_met_stands_in_the_report_with_its_reason() -> None:
    one = {"tutorial_sync": row(100, 1000), "ours_router": row(100, 1000)}
    results = {"rounds": 1, "seconds": 1, "clients": 1, "processors": 1, "python": "3", "memory_kib": {}}
    text = report.scorecard({**results, "results": {"sqlite": {"read one": one}}})
    assert "- read one: CRUDRouter to hand-written sync, SQLite: " in "\n".join(text)


def test_reasons_are_those_of_aims() -> None:
    titles = {target.title for target in TARGETS}
    assert len(titles) == len(TARGETS)
    assert set(tomllib.loads(report.REASONS.read_text())) <= titles
