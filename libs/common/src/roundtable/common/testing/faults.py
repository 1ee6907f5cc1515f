"""Testing layer: an event log that fails as a real one may. Knows no NATS and no time but the loop's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random

from roundtable.common.eventlog import Conflict, EventLog, LogFull, LogMessage, LogUnavailable


class FaultyEventLog:
    """Passes all on to a sound log, after a moment; but with the given probabilities, until `mend`, it

    - stores an append and does not say so (`unanswered`), or stores it only after the caller has gone (`late`);
    - answers that there is a conflict where there is none (`refused`), or that it is full (`full`);
    - does not answer (`unavailable`: appends and reads alike).
    """

    def __init__(
        self,
        sound: EventLog,
        random: Random,
        *,
        unanswered: float = 0.0,
        late: float = 0.0,
        refused: float = 0.0,
        full: float = 0.0,
        unavailable: float = 0.0,
        slowest: float = 0.002,
    ) -> None:
        self.sound = sound
        self.appends = self.reads = self.faults = 0
        self._random = random
        self._chances = {
            self._unanswered: unanswered,
            self._late: late,
            self._refused: refused,
            self._full: full,
            self._unavailable: unavailable,
        }
        self._of_reads = unavailable
        self._slowest = slowest
        self._tasks: set[asyncio.Task[None]] = set()

    def unavailable(self) -> None:
        """From now on it answers nothing."""
        self._chances = {self._unavailable: 1.0}
        self._of_reads = 1.0

    async def mend(self) -> None:
        """No faults any more; when it returns, nothing is stored late."""
        self._chances.clear()
        self._of_reads = 0.0
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def append(self, room: str, payload: bytes, expected: int) -> int:
        self.appends += 1
        await self._delay()
        lot = self._random.random()
        for fault, chance in self._chances.items():
            lot -= chance
            if lot < 0:
                self.faults += 1
                await fault(room, payload, expected)
        seq = await self.sound.append(room, payload, expected)
        await self._delay()
        return seq

    async def _unanswered(self, room: str, payload: bytes, expected: int) -> None:
        await self.sound.append(room, payload, expected)
        raise LogUnavailable("stored, and not said")

    async def _late(self, room: str, payload: bytes, expected: int) -> None:
        async def store() -> None:
            await asyncio.sleep(self._random.uniform(0, 5 * self._slowest))
            with contextlib.suppress(Conflict, LogUnavailable):
                await self.sound.append(room, payload, expected)

        task = asyncio.create_task(store())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        raise LogUnavailable("perhaps stored later")

    async def _refused(self, room: str, payload: bytes, expected: int) -> None:
        raise Conflict(room)

    async def _full(self, room: str, payload: bytes, expected: int) -> None:
        raise LogFull("no space")

    async def _unavailable(self, room: str, payload: bytes, expected: int) -> None:
        raise LogUnavailable("not stored")

    async def read(self, room: str, after: int, limit: int = 256) -> list[LogMessage]:
        await self._read()
        return await self.sound.read(room, after, limit)

    async def get(self, seq: int) -> LogMessage | None:
        await self._read()
        return await self.sound.get(seq)

    async def last(self, room: str) -> int:
        await self._read()
        return await self.sound.last(room)

    async def first(self) -> int:
        await self._read()
        return await self.sound.first()

    def heads(self) -> AsyncIterator[LogMessage]:
        return self.sound.heads()

    async def _read(self) -> None:
        self.reads += 1
        await self._delay()
        if self._random.random() < self._of_reads:
            self.faults += 1
            raise LogUnavailable("no answer")

    async def _delay(self) -> None:
        if self._slowest:
            await asyncio.sleep(self._random.uniform(0, self._slowest))
