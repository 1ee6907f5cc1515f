"""Test layer: what befalls the system's processes: killed, stopped, ended and started again. By pid, only ours."""

from __future__ import annotations

import asyncio
import signal
from typing import Final, Literal

from roundtable.common.testing.system import Program, System

Blow = Literal["kill", "freeze", "restart"]
BLOWS: Final[tuple[Blow, ...]] = ("kill", "freeze", "restart")
STANDSTILL: Final = 2.0
"""Seconds that something stands still."""


def victims(system: System) -> list[str]:
    return [program.name for program in system.programs] + ["nats"]


async def strike(system: System, name: str, blow: Blow, pause: float = 0.0) -> None:
    """Does it, and returns when the victim is ready again; `pause`: seconds that it stays dead."""
    if name == "nats":
        await _strike_nats(system, blow, pause)
        return
    program = next(each for each in system.programs if each.name == name)
    if blow == "freeze":
        program.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(STANDSTILL)
        finally:
            program.send(signal.SIGCONT)
        return
    if blow == "kill":
        await program.kill()
    else:
        status = await program.end(signal.SIGTERM)
        if status:
            raise RuntimeError(f"{name} ended with {status}:\n{program.log()[-3_000:]}")
    await asyncio.sleep(pause)
    program.start()
    await program.ready(40)


async def _strike_nats(system: System, blow: Blow, pause: float) -> None:
    nats = system.nats
    if blow == "freeze":
        nats.freeze()
        try:
            await asyncio.sleep(STANDSTILL)
        finally:
            nats.thaw()
        return
    await (nats.kill() if blow == "kill" else nats.stop())
    await asyncio.sleep(pause)
    await nats.start()


def troubles(program: Program, *words: str) -> list[str]:
    """Lines of its log that tell of an error, or hold one of the words."""
    marks = ('"level":"ERROR"', *words)
    return [line for line in program.log().splitlines() if any(mark in line for mark in marks)]
