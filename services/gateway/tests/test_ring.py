"""The ring of recent events, and the interleaving of logs, with no room around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from roundtable.common.cursor import Position, Vector
from roundtable.common.schema.envelope import ServerEvent
from roundtable.common.schema.log import SERVICES, Service
from roundtable.gateway.batch import Entry
from roundtable.gateway.ring import Ring, interleaved

services = st.sampled_from(SERVICES)


def entry(service: Service, seq: int, at: int = 0, size: int = 100) -> Entry:
    event = ServerEvent("canvas.draw", Raw(b"{}"), at, f"{service}-{seq}")
    return Entry(service, Position(seq), event, None, size)


def told(*those: Service) -> list[Entry]:
    """One event after another, each the next of its log."""
    seqs = dict.fromkeys(SERVICES, 0)
    found = []
    for service in those:
        seqs[service] += 1
        found.append(entry(service, seqs[service]))
    return found


@pytest.mark.rule("RS2", "RS3")
@given(st.lists(services, max_size=40), st.integers(0, 20), st.integers(0, 2_000))
def test_from_any_place_that_it_reaches_a_ring_has_exactly_the_rest(
    those: list[Service], events: int, size: int
) -> None:
    ring, place = Ring(events, size), Vector()
    places = [place]
    entries = told(*those)
    for each in entries:
        ring.add(each)
        place = place.moved(each.service, each.position)
        places.append(place)
    assert ring.reaches(place)
    for number, earlier in enumerate(places):
        if ring.reaches(earlier):
            assert ring.after(earlier) == entries[number:]
        else:
            assert len(entries) - number > min(events, size // 100)


@pytest.mark.rule("RS2")
@given(st.lists(st.lists(st.integers(0, 50), max_size=12), min_size=3, max_size=3), st.integers(1, 15))
def test_interleaved_logs_keep_each_its_own_order_and_none_runs_ahead_of_one_that_was_cut(
    times: list[list[int]], limit: int
) -> None:
    logs = [
        [entry(service, seq, at) for seq, at in enumerate(row[:limit], 1)]
        for service, row in zip(SERVICES, times, strict=True)
    ]
    found = interleaved(logs, limit)
    for service, log in zip(SERVICES, logs, strict=True):
        mine = [each for each in found if each.service == service]
        assert mine == log[: len(mine)]
        if len(mine) < len(log):
            assert any(len(other) >= limit for other in logs)
    if all(len(log) < limit for log in logs):
        assert len(found) == sum(map(len, logs))
    elif any(logs):
        assert found
