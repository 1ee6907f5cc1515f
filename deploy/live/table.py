"""The system under a little load, told what to suffer: `python -m deploy.live.table`, in the project's own environment.

Prints where it is to be scraped, as one line of JSON; then carries out what it reads, a word a line, and says `done` after
each: `kill`, `start` (the canvas service), `freeze`, `thaw` (NATS), `strangers` (clients with another log's cursor). Ends with
its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Final

import httpx
from websockets.exceptions import WebSocketException

from roundtable.common.testing.forms import Players
from roundtable.common.testing.nats import NatsServer
from roundtable.common.testing.players import Player, Problem
from roundtable.common.testing.system import SERVICES, System

LIMITED: Final = """
accounts { ROUNDTABLE { jetstream: { max_file: 512MB }, users: [ { user: all, password: all } ] } }
no_auth_user: all
"""
TRANSPORTS: Final = ("websocket-json", "websocket-msgpack", "sse", "poll-json")
STRANGERS: Final = 60


AWAY: Final = (AssertionError, TimeoutError, OSError, WebSocketException, httpx.HTTPError)
"""NATS or a service does not answer, as it was told."""


async def ask(player: Player, method: str, params: dict[str, object]) -> None:
    """Whatever the answer is."""
    with contextlib.suppress(Problem, *AWAY):
        await player.request(method, params)


async def play(system: System, transport: str) -> None:
    """Comes, does a little of everything, goes, and comes back with its cursor; until cancelled."""
    cursor = ""
    while True:
        players = Players(system, "den", transport)
        try:
            ann = await players("ann", "gm", cursor=cursor)
            for number in range(12):
                points = [{"x": number, "y": 1}, {"x": 2, "y": number}]
                stroke = {"type": "draw", "tool": "pen", "color": "#c33", "size": 4, "points": points}
                await ask(ann, "canvas.draw", {"operations": [{**stroke, "id": secrets.token_hex(8)}]})
                for step in range(5):
                    await ann.transmit(
                        {"type": "event", "method": "presence.cursor", "params": {"x": step, "y": number}}
                    )
                await ask(ann, "activity.post", {"type": "chat_message", "data": {"text": "Hello"}})
                await ask(ann, "activity.post", {"type": "dice_roll", "data": {"expression": "2d6"}})
                await ask(ann, "presence.update", {"status": "online"})
                await ask(ann, "activity.list", {})
                await ask(ann, "heartbeat", {})
                await ask(ann, "no.such.method", {})
                await asyncio.sleep(0.1)
            await ask(ann, "canvas.clear", {"scope": "all"})
            cursor = ann.cursor
        except AWAY:
            await asyncio.sleep(0.2)
        finally:
            await players.leave()


async def wander(system: System) -> None:
    """Looks into ever new rooms, so that services load them; until cancelled."""
    for number in count():
        players = Players(system, f"hall{number}", "websocket-json")
        try:
            await players("carl")
        except AWAY:
            pass
        finally:
            await players.leave()
        await asyncio.sleep(0.5)


async def strangers(system: System) -> None:
    """Each comes with a cursor of another log and gets snapshots."""
    for number in range(STRANGERS):
        players = Players(system, f"room{number}", "websocket-json")
        first = await players("bob")
        epoch, _, rest = first.welcome["cursor"].partition(".")
        await players("bob", cursor=f"{epoch[::-1]}.{rest}")
        await players.leave()


async def obey(system: System, word: str) -> None:
    [canvas] = system.of("canvas")
    match word:
        case "kill":
            await canvas.kill()
        case "start":
            canvas.start()
            await canvas.ready()
        case "freeze":
            system.nats.freeze()
        case "thaw":
            system.nats.thaw()
        case "strangers":
            await strangers(system)
        case _:
            raise ValueError(word)


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="roundtable-live-") as home:
        system = System(Path(home), gateways=2)
        system.nats = NatsServer(Path(home), extra=LIMITED)
        async with system:
            targets = {
                service: [f"127.0.0.1:{program.port}" for program in system.of(service)]
                for service in ("gateway", *SERVICES)
            }
            print(json.dumps(targets), flush=True)
            load = [asyncio.create_task(play(system, transport)) for transport in TRANSPORTS]
            load.append(asyncio.create_task(wander(system)))
            try:
                while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
                    await obey(system, word)
                    print("done", flush=True)
            finally:
                system.nats.thaw()
                for task in load:
                    task.cancel()
                await asyncio.wait(load, timeout=10)


if __name__ == "__main__":
    asyncio.run(main())
