"""Pure layer: the commands of the last five minutes, so that a repeated one takes effect once (RS6).

Part of a room's state and of its snapshot, folded from the log like the rest. Kept compact: a command is eight bytes of
hash and the place of its events; its answer is built again from them.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

WINDOW_MS: Final = 5 * 60_000
MOST: Final = 20_000


class Place(NamedTuple):
    """Where a command's events stand: `size` of them, from number `event` of message `seq`, stored at `at` (ms)."""

    seq: int
    event: int
    size: int
    at: int


def key_of(user: str, method: str, request: str) -> int:
    """64 bits over who, what and the request's id; a client can only collide with itself."""
    text = f"{len(user)}.{user}{len(method)}.{method}{request}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class RecentCommands:
    """Insertion-ordered by the log; forgets by the log's own time, so that every replica forgets the same."""

    __slots__ = ("_places",)

    def __init__(self, dumped: list[tuple[int, int, int, int, int]] | None = None) -> None:
        self._places: dict[int, Place] = {row[0]: Place(*row[1:]) for row in dumped or ()}

    def __len__(self) -> int:
        return len(self._places)

    def find(self, key: int) -> Place | None:
        return self._places.get(key)

    def add(self, key: int, place: Place) -> None:
        self._places[key] = place
        while self._places:
            oldest = next(iter(self._places))
            if len(self._places) <= MOST and self._places[oldest].at >= place.at - WINDOW_MS:
                break
            del self._places[oldest]

    def dump(self) -> list[tuple[int, int, int, int, int]]:
        return [(key, *place) for key, place in self._places.items()]
