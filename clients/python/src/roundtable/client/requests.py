"""Pure layer: requests from their making to their one end: answer, refusal, timeout or goodbye (CL2, CL4). Knows no clock.

A request is *in flight* from its sending until its answer or a break; before and between it *waits*. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from roundtable.common.schema.methods import METHODS

from .errors import RequestTimeout, RoundtableError
from .pace import Pace

WAITING_AT_MOST: Final = 1_000
"""CL4."""
WINDOW: Final = 64
"""In flight at once: a gateway keeps no more than a few hundred of one connection."""
PATIENCE: Final = 30.0
"""Seconds for an answer on a living connection, for a request that sets no time of its own."""
FORGOTTEN: Final = 240.0
"""Seconds after a break at which the server may no longer know the id (CL2; it remembers 5 minutes, RS6)."""
REPEATS: Final = 5
"""Of a request that the server could not carry out just then."""
REPEAT_PAUSE: Final = 0.5


@dataclass
class Request:
    id: str
    method: str
    params: Any
    deadline: float | None
    """Its whole time is over then, wherever it is."""
    counted: bool
    in_flight: bool = False
    sent_at: float = 0.0
    broken_at: float | None = None
    """The first break that happened while it was in flight."""
    not_before: float = 0.0
    repeats: int = 0

    @property
    def message(self) -> dict[str, Any]:
        return {"type": "request", "id": self.id, "method": self.method, "params": self.params}


class Requests:
    def __init__(self, random: Callable[[], float]) -> None:
        self.pace: Final = Pace()
        self._random = random
        self._all: dict[str, Request] = {}
        """In the order of their making, in which they also go out again."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def waiting(self) -> int:
        return sum(not each.in_flight for each in self._all.values())

    def add(self, ident: str, method: str, params: Any, timeout: float | None, now: float) -> None:
        """Raises `RoundtableError` (overloaded) if too many wait already, ValueError for an id that is in use."""
        if ident in self._all:
            raise ValueError(f"a request with the id {ident!r} is on its way already")
        if self.waiting >= WAITING_AT_MOST:
            raise RoundtableError(
                1013, "overloaded", f"{WAITING_AT_MOST:,} requests wait for the server already"
            )
        known = METHODS.get(method)
        deadline = None if timeout is None else now + timeout
        self._all[ident] = Request(ident, method, params, deadline, known.counted if known else True)

    def drop(self, ident: str) -> bool:
        """Its end; false if it had one already."""
        return self._all.pop(ident, None) is not None

    def refused(self, ident: str, error: RoundtableError, now: float) -> bool:
        """Whether that is its end. If not, it will be sent again with its id, when that makes sense."""
        request = self._all.get(ident)
        if request is None:
            return False
        advice = error.advice
        if advice == "wait":
            self._again(request, now)
            self.pace.hold(now + (error.retry_after or 1.0))
            return False
        if advice in ("backoff", "reconnect") and request.repeats < REPEATS:
            self._again(request, now + self._random() * REPEAT_PAUSE * 2**request.repeats)
            request.repeats += 1
            return False
        return self.drop(ident)

    @staticmethod
    def _again(request: Request, at: float) -> None:
        request.in_flight, request.not_before = False, at

    def broken(self, now: float) -> None:
        """The connection broke: nobody knows what became of those in flight."""
        for request in self._all.values():
            request.not_before = 0.0
            if request.in_flight:
                request.in_flight = False
                if request.broken_at is None:
                    request.broken_at = now

    def in_flight(self) -> list[str]:
        return [request.id for request in self._all.values() if request.in_flight]

    def take(self, now: float) -> Iterator[Request]:
        """Those that go out now, in order; they are in flight from then on. What is not counted overtakes what must wait."""
        free = WINDOW - len(self.in_flight())
        paced = True
        for request in self._all.values():
            if request.in_flight or request.not_before > now or free <= 0:
                continue
            if request.counted:
                paced = paced and self.pace.take(now)
                if not paced:
                    continue
            free -= 1
            request.in_flight, request.sent_at = True, now
            yield request

    def expired(self, now: float) -> list[tuple[str, RequestTimeout]]:
        """Those whose time is over, and why; they are gone from here."""
        found = [(each.id, each) for each in self._all.values() if self._end_of(each) <= now]
        for ident, _ in found:
            del self._all[ident]
        return [(ident, RequestTimeout(self._why(request, now))) for ident, request in found]

    def _end_of(self, request: Request) -> float:
        end = float("inf") if request.deadline is None else request.deadline
        if request.in_flight and request.deadline is None:
            end = min(end, request.sent_at + PATIENCE)
        if not request.in_flight and request.broken_at is not None:
            end = min(end, request.broken_at + FORGOTTEN)
        return end

    @staticmethod
    def _why(request: Request, now: float) -> str:
        if request.broken_at is not None and not request.in_flight and now >= request.broken_at + FORGOTTEN:
            return (
                f"`{request.method}` was on its way when the connection broke, too long ago to be asked again"
            )
        return f"`{request.method}` was not answered in time"

    def next_at(self, now: float, *, connected: bool) -> float:
        """When there is something to do next: a sending, or an end."""
        nearest = min((self._end_of(each) for each in self._all.values()), default=float("inf"))
        if connected and len(self.in_flight()) < WINDOW:
            for request in self._all.values():
                if not request.in_flight:
                    at = max(now, request.not_before)
                    nearest = min(nearest, max(at, self.pace.next_at(now)) if request.counted else at)
        return nearest

    def clear(self) -> list[str]:
        idents = list(self._all)
        self._all.clear()
        return idents
