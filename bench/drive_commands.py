"""Shell: one process that asks the canvas service for strokes, as a gateway does: `python -m bench.drive_commands JOB`."""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
import nats
from msgspec import UNSET, Raw, Struct

from roundtable.common.command_client import CommandClient
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage

WARM: float = 0.5
_STROKE = Raw(
    b'{"operations":[{"type":"draw","tool":"pen","points":[{"x":1,"y":2},{"x":3.5,"y":-4}],"color":"#1e90ff","size":3}]}'
)


class Job(Struct):
    nats: str
    name: str
    """Begins the rooms' names."""
    rooms: int
    number: int
    """Of this process."""
    writers: int
    seconds: float


class Driven(Struct):
    """`milliseconds` of each command that was answered in the measured time, `failed` those that were refused."""

    milliseconds: list[float]
    seconds: float
    failed: int


async def drive(job: Job) -> Driven:
    client = await nats.connect(job.nats, pending_size=16 << 20)
    commands = CommandClient(client)
    await commands.start()
    begin = time.perf_counter() + WARM
    end = begin + job.seconds
    took: list[float] = []
    failed = 0

    async def writer(number: int) -> None:
        nonlocal failed
        user = f"w{job.number}-{number}"
        room = f"{job.name}-{number % job.rooms}"
        count = 0
        while (asked := time.perf_counter()) < end:
            count += 1
            command = CommandMessage("canvas.draw", _STROKE, user, user, "player", f"{count}")
            try:
                reply = await commands.request("canvas", room, command)
                refused = reply.error is not UNSET
            except Refusal:
                refused = True
            answered = time.perf_counter()
            if refused:
                failed += 1
            elif begin <= answered < end:
                took.append(round((answered - asked) * 1000, 3))

    await asyncio.gather(*map(writer, range(job.writers)))
    await client.close()
    return Driven(took, job.seconds, failed)


def main() -> None:
    job = msgspec.json.decode(sys.argv[1], type=Job)
    try:
        import uvloop
    except ImportError:
        done = asyncio.run(drive(job))
    else:
        done = uvloop.run(drive(job))
    sys.stdout.buffer.write(msgspec.json.encode(done))


if __name__ == "__main__":
    main()
