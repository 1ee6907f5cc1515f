"""Pure layer: token buckets. Knows no clock: times come in, in seconds."""

from __future__ import annotations

from collections import deque
from typing import Final

REFUSALS: Final = 100
"""In a minute: the last of them closes the connection (LI2)."""


class TokenBucket:
    """`depth` tokens, refilled at `per_minute`: the classic token bucket (as in RFC 2697, one rate). LI2."""

    __slots__ = ("_depth", "_rate", "_tokens", "_at")

    def __init__(self, depth: float, per_minute: float, now: float) -> None:
        self._depth = depth
        self._rate = per_minute / 60
        self._tokens = depth
        self._at = now

    def take(self, now: float) -> float:
        """0.0 when a token was taken; else the seconds until there is one again, and nothing is taken."""
        if now > self._at:
            self._tokens = min(self._depth, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate if self._rate else 60.0

    def full(self, now: float) -> bool:
        """Whether it is as good as new, so may be forgotten."""
        return self._tokens + (now - self._at) * self._rate >= self._depth


class Pace:
    """At most `hz` a second, evenly: the generic cell rate algorithm (ITU-T I.371). PR4, CV4.

    One that comes too early waits, and is merged with what comes after it.
    """

    __slots__ = ("_next", "_interval", "_tolerance")

    def __init__(self, hz: float, tolerance: float) -> None:
        self._interval = 1 / hz if hz else 0.0
        self._tolerance = min(tolerance, self._interval)
        self._next = 0.0

    def take(self, now: float) -> bool:
        if now < self._next - self._tolerance:
            return False
        self._next = max(self._next, now) + self._interval
        return True


class Refusals:
    """The times of the latest `rate_limited` answers of one connection."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=REFUSALS)

    def add(self, now: float) -> bool:
        """True when that makes a hundred within a minute."""
        self._times.append(now)
        return len(self._times) == REFUSALS and now - self._times[0] < 60

    def past(self, now: float) -> bool:
        """Whether all of them are forgotten."""
        return not self._times or now - self._times[-1] >= 60
