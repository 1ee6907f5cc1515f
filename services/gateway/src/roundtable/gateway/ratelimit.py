"""Pure layer: token buckets. Knows no clock: times come in, in seconds."""

from __future__ import annotations

from typing import Final

REFUSALS_AT_MOST: Final = 100
"""In a minute; the next one closes the connection (LI2)."""


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
    """At most `hz` a second, evenly: the generic cell rate algorithm with one tick of tolerance (ITU-T I.371). PR4, CV4.

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
    """Counts `rate_limited` answers of one connection in fixed minutes."""

    __slots__ = ("_since", "_count")

    def __init__(self) -> None:
        self._since = float("-inf")
        self._count = 0

    def add(self, now: float) -> bool:
        """True when there were too many."""
        if now - self._since >= 60:
            self._since, self._count = now, 0
        self._count += 1
        return self._count > REFUSALS_AT_MOST
