"""Pure layer: how fast requests may leave, so that the server need not refuse them. Knows no clock: times come in."""

from __future__ import annotations

from typing import Final

WHOLE: Final = 1 - 1e-6
"""One token, but for what floating point leaves: `next_at` must be a time at which `take` is true."""


class Pace:
    """The server's own token bucket, told by the welcome: `per_minute` at once, and as many a minute (LI2). 0: no limit."""

    def __init__(self) -> None:
        self._per_minute = 0
        self._tokens = 0.0
        self._at = 0.0
        self._held_until = 0.0

    def set(self, per_minute: int, now: float) -> None:
        if per_minute != self._per_minute:
            self._per_minute, self._tokens, self._at = per_minute, float(per_minute), now

    def take(self, now: float) -> bool:
        """Whether one may leave now; if so, it has."""
        if now < self._held_until:
            return False
        if not self._per_minute:
            return True
        self._fill(now)
        if self._tokens < WHOLE:
            return False
        self._tokens = max(0.0, self._tokens - 1)
        return True

    def next_at(self, now: float) -> float:
        """When `take` will be true again."""
        if not self._per_minute:
            return max(now, self._held_until)
        self._fill(now)
        missing = max(0.0, 1 - self._tokens)
        return max(now + missing * 60 / self._per_minute, self._held_until)

    def hold(self, until: float) -> None:
        """The server refused one: there are other connections of the same user, or other limits than it told."""
        self._held_until = max(self._held_until, until)
        self._tokens, self._at = min(self._tokens, 1.0), max(self._at, until)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(
                float(self._per_minute), self._tokens + (now - self._at) * self._per_minute / 60
            )
            self._at = now
