"""What all tests share: how Hypothesis looks for examples.

It measures no time, for a busy machine is no fault of the code. Where `CI` is set every run sees the same examples, so that a
change is judged by what it changes; other runs look for new ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "roundtable",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("roundtable")
