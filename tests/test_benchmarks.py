"""The benchmark knows what it measures: each contender has a file, each work a path in the hand-written code."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders import BASE, CONTENDERS, WORKS, rows_of
from benchmarks.targets import TARGETS

FOLDER = Path(__file__).parents[1] / "benchmarks" / "contenders"


def test_each_contender_is_one_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*CONTENDERS, "__init__", "ours_growth"}


def test_the_hand_written_code_does_every_work() -> None:
    assert set(CONTENDERS[BASE].paths) == set(WORKS)
    assert all(set(contender.paths) <= set(WORKS) for contender in CONTENDERS.values())


def test_every_aim_is_about_something_that_is_measured() -> None:
    for target in TARGETS:
        assert target.work in CONTENDERS[target.contender].paths
        assert all(target.work in CONTENDERS[name].paths for name in target.against)


def test_answers_are_compared_by_their_rows() -> None:
    row = {"id": 1, "name": "a", "email": "e", "age": 2, "city": "c", "is_active": True}
    assert rows_of([row]) == rows_of({"data": [{**row, "more": 1}], "total": 1}) == rows_of({"items": [row]}) == [row]
