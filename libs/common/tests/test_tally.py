"""Counters for hot paths come out as any other counter."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from roundtable.common.tally import Tallies


def test_a_tally_comes_out_as_a_counter() -> None:
    registry = CollectorRegistry()
    sizes = Tallies("roundtable_sizes", "Sizes", ("kind",), registry)
    sizes.labels("small").value += 3
    sizes.labels("small").value += 4
    sizes.labels('"\n').value += 1
    text = generate_latest(registry).decode()
    assert "# TYPE roundtable_sizes_total counter" in text
    assert 'roundtable_sizes_total{kind="small"} 7.0' in text
    assert 'roundtable_sizes_total{kind="\\"\\n"} 1.0' in text


def test_a_tally_has_its_familys_labels() -> None:
    sizes = Tallies("roundtable_sizes", "Sizes", ("kind",), CollectorRegistry())
    with pytest.raises(ValueError, match="has the labels"):
        sizes.labels()


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Tallies("roundtable_sizes", "Sizes", (), registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Tallies("roundtable_sizes", "Sizes", (), registry)
