"""What the gateway counts, and under how few names, whatever clients invent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from roundtable.common.schema.errors import REASONS, Refusal
from roundtable.common.schema.methods import METHODS
from roundtable.gateway.metrics import UNKNOWN, GatewayMetrics

pytestmark = pytest.mark.rule("OP1")


def methods(metrics: GatewayMetrics) -> set[str]:
    """Under which requests are counted."""
    [family] = metrics.requests.collect()
    return {sample.labels["method"] for sample in family.samples}


@given(st.lists(st.text(max_size=80) | st.sampled_from(sorted(METHODS)), max_size=20))
def test_methods_that_there_are_not_share_one_label(names: list[str]) -> None:
    metrics = GatewayMetrics(CollectorRegistry())
    for name in names:
        metrics.refused(name, Refusal("unknown_method"))
    assert methods(metrics) == {name if name in METHODS else UNKNOWN for name in names}


def test_our_failures_and_the_clients_faults_are_told_apart() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for reason in sorted(REASONS):
        metrics.answered("canvas.draw", 0.001, Refusal(reason))
    metrics.answered("canvas.draw", 0.001)

    def count(outcome: str) -> float | None:
        name = "roundtable_gateway_request_seconds_count"
        return registry.get_sample_value(name, {"method": "canvas.draw", "outcome": outcome})

    assert count("ok") == 1
    assert count("failed") == 3
    assert count("refused") == len(REASONS) - 3


def test_an_events_delay_counts_from_the_servers_stamp() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for stamp in ("2026-01-02T03:04:05.123456789Z", "2999-01-02T03:04:05Z", "", "yesterday", "\ud800"):
        metrics.stored_at(stamp)
    assert registry.get_sample_value("roundtable_gateway_event_delay_seconds_count") == 2
    # A clock that is ahead of ours makes no negative delay.
    assert registry.get_sample_value("roundtable_gateway_event_delay_seconds_bucket", {"le": "0.0002"}) == 1
