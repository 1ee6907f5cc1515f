"""Adapter layer: has pictures drawn by processes, a few at once, each within its time. Knows no room and no HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from roundtable.common.schema.errors import Refusal
from roundtable.common.telemetry import log

Kind = Literal["svg", "png"]
BUSY_WAIT: Final = 5.0
"""Seconds after which whoever finds it busy may ask again."""
WAITING: Final = 4
"""Exports that may wait for each that is at work."""


class Studio:
    def __init__(self, at_once: int, seconds: float) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._room_for = at_once * (1 + WAITING)
        self._seconds = seconds

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of a few places at work. Raises `Refusal` (overloaded): too many wait for one already, or it takes too long."""
        if not self._room_for:
            raise Refusal("overloaded", "Too many exports are at work", retry_after=BUSY_WAIT)
        self._room_for -= 1
        try:
            async with asyncio.timeout(self._seconds), self._places:
                yield
        except TimeoutError:
            raise Refusal(
                "overloaded", f"The export took more than {self._seconds:g} s", retry_after=BUSY_WAIT
            ) from None
        finally:
            self._room_for += 1

    async def draw(self, kind: Kind, canvas: bytes) -> bytes:
        """From the answer to `canvas.state`. Raises `Refusal` (internal)."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __package__, kind),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # None of our settings: there are secrets among them.
            env={name: value for name, value in os.environ.items() if name == "PYTHONPATH"},
        )
        try:
            drawn, words = await process.communicate(canvas)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            log.error(
                "export.failed",
                kind=kind,
                status=process.returncode,
                error=words.decode(errors="replace")[-500:],
            )
            raise Refusal("internal", "The canvas could not be drawn")
        return drawn
