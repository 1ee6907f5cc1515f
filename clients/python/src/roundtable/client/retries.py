"""Pure layer: how long to wait before the next attempt (CL1), and which events have been seen (CL3). Knows no clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

LONGEST_PAUSE: Final = 30.0
PROBE: Final = 30.0
"""Seconds between two looks whether it goes again, or goes better (CL1); give or take a fifth, so that not all look at once."""
SEEN: Final = 10_000
"""Ids that are remembered: events come again only around a change of connection."""


class Retries:
    """Of one transport at a time. `random` gives 0 to 1; the longest first pause is `delay` seconds."""

    def __init__(self, attempts: int, delay: float, random: Callable[[], float]) -> None:
        self._most = attempts
        self._delay = delay
        self._random = random
        self.made = 0
        self._pauses = 0

    def begin(self, made: int = 0) -> None:
        """With a full count: another transport, or a connection that held."""
        self.made, self._pauses = made, 0

    def uncount(self) -> None:
        """The last attempt's failure was not the transport's fault."""
        self.made = max(0, self.made - 1)

    def pause(self) -> float | None:
        """Before the next attempt: full jitter, each longest pause twice the one before. None: there were enough attempts."""
        if self.made >= self._most:
            return None
        longest = min(LONGEST_PAUSE, self._delay * 2.0**self._pauses)
        self._pauses += 1
        return self._random() * longest

    def jitter(self) -> float:
        """Before coming back at once, so that not all do at the same moment."""
        return self._random() * self._delay

    def long_wait(self) -> float:
        """Where the server wants us to wait, and does not say how long."""
        return LONGEST_PAUSE * (1 + self._random()) / 2

    def probe(self) -> float:
        return PROBE * (0.8 + 0.4 * self._random())


class Seen:
    """The ids of the latest events."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, ident: str) -> bool:
        """False: it was there already."""
        if ident in self._ids:
            return False
        self._ids[ident] = None
        if len(self._ids) > SEEN:
            self._ids.popitem(last=False)
        return True
