"""A short soak: a minute in which people draw, read and move while all that can break does. `make soak` is the long one.

The seed is new each time and stands in the output; ROUNDTABLE_SOAK_SEED pins it, ROUNDTABLE_SOAK_SECONDS sets the length.
"""

from __future__ import annotations

import os

import pytest

from .soak import seed_of, soak

SECONDS = 60.0


@pytest.mark.rule("RS2", "RS4", "RS6", "RS7", "CO4", "PR1", "PR2")
async def test_whatever_breaks_for_a_minute_nothing_is_lost_doubled_or_reordered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = seed_of(os.environ.get("ROUNDTABLE_SOAK_SEED"))
    with capsys.disabled():  # so that the seed is known, however the run ends
        print(f"\nsoak: seed {seed}", flush=True)
        report = await soak(float(os.environ.get("ROUNDTABLE_SOAK_SECONDS") or SECONDS), seed)
    assert report.faults == [], "\n".join([str(report), *report.blows, *report.slow, *report.faults])
