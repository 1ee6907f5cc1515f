"""The benchmark's guard judges by ratios alone, and says what has become dearer."""

from __future__ import annotations

from bench.contestants import JOINED
from bench.quick import OURS, compare

SCENE = "10 × 10 × 60 Hz"
NAME = f"{SCENE} ÷ {JOINED}"


def test_a_rise_of_more_than_a_quarter_is_a_warning() -> None:
    costs = {SCENE: {OURS: [5.0, 6.0, 7.0], JOINED: [2.0, 2.0, 2.0], "Node ws": [10.0, 10.0, 10.0]}}
    table, fresh, worse = compare(costs, {NAME: 2.3, f"{SCENE} ÷ Node ws": 0.6})
    assert fresh == {NAME: 3.0, f"{SCENE} ÷ Node ws": 0.6}
    assert worse == [f"{NAME}: 2.30 has become 3.00"]
    assert [row[-1] for row in table.rows] == ["+30%", "+0%"]


def test_a_slower_machine_is_none_as_all_get_slower() -> None:
    costs = {SCENE: {OURS: [50.0], JOINED: [20.0]}}
    _, fresh, worse = compare(costs, {NAME: 2.5})
    assert fresh == {NAME: 2.5}
    assert not worse


def test_what_was_not_measured_or_never_landed_is_not_judged() -> None:
    assert compare({SCENE: {OURS: [5.0]}}, {NAME: 0.1})[1:] == ({}, [])
    assert compare({SCENE: {OURS: [5.0], JOINED: [1.0]}}, {})[2] == []
