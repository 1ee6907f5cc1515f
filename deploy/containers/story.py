"""Shell layer: the story that is shown: people play through a rollout of everything and each NATS server's death."""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import ssl
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Final

import httpx
import nats
from nats.aio.client import Client

from roundtable.common.testing.system import SECRET
from tests.chaos.crew import KINDS, Member
from tests.chaos.figures import Figures, Phase, work
from tests.chaos.judge import all_told, judge, read_logs

from .cluster import Cluster, Endpoints, Place
from .pods import Pod

ROOMS: Final = ("attic", "barn", "cellar")
ROLLED: Final = ("nats", "canvas", "presence", "activity", "gateway")
"""In this order: first what others stand on."""
AWAY: Final = 2.0
"""Seconds that nobody is without a connection for longer."""
USERS: Final = ("gateway", "canvas", "presence", "activity", "provision", "operator", "sys")


def new_secrets() -> dict[str, dict[str, str]]:
    """What an operator makes by hand before the first apply. A password begins with a letter, as NATS' parser wants it."""
    passwords = {user: f"p{secrets.token_hex(16)}" for user in USERS}
    return {"nats-passwords": passwords, "gateway-jwt": {"secret": SECRET}}


def people(gateways: Endpoints, chance: random.Random) -> tuple[list[Member], list[Member]]:
    """Writers and readers: in each room one of either for each transport, and somebody whose status changes."""
    writers, readers = [], []
    for room in ROOMS:
        for kind in KINDS:
            lot = random.Random(chance.random())
            readers.append(Member(gateways, f"reads-{kind}-{room}", room, kinds=(kind,), chance=lot))
        writers.append(Member(gateways, f"roams-{room}", room, chance=random.Random(chance.random())))
    for number, kind in enumerate(KINDS):
        for does in ("draws", "talks"):
            room, lot = ROOMS[number % len(ROOMS)], random.Random(chance.random())
            writers.append(Member(gateways, f"{does}-{kind}", room, kinds=(kind,), chance=lot))
    return writers, readers


async def has_page(gateway: Place) -> bool:
    """Whether it was built into the image, with all that it names."""
    async with httpx.AsyncClient(base_url=gateway.http, trust_env=False) as http:
        page = await http.get("/")
        named = re.findall(r"/static/[^\"']+", page.text)
        answers = [await http.get(name) for name in named]
    return page.status_code == 200 and len(named) > 1 and all(each.status_code == 200 for each in answers)


class Story:
    """`faults` holds every promise that was broken."""

    def __init__(
        self, cluster: Cluster, seed: int, rolled: Sequence[str] = ROLLED, kills: bool = True
    ) -> None:
        self.faults: list[str] = []
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._rolled = rolled
        self._kills = kills

    async def play(self) -> None:
        gateways = Endpoints(self._cluster, "gateway")
        writers, readers = people(gateways, self._chance)
        everybody = [*writers, *readers]
        figures, done = Figures(everybody), asyncio.Event()
        async with AsyncExitStack() as stack:
            for member in everybody:
                await stack.enter_async_context(member)
            self.faults += [f"{each.name} has no page" for each in gateways if not await has_page(each)]
            working = asyncio.create_task(work(writers, done), name="work")
            rolled = await self._befall(figures)
            done.set()
            _, late = await asyncio.wait((working,), timeout=90)
            if late:
                self.faults.append(f"somebody still waits for an answer: {working!r}")
                working.cancel()
            elif (error := working.exception()) is not None:
                self.faults.append(f"somebody was refused: {error!r}")
            began = time.monotonic()
            try:
                await all_told(self.connect, everybody)
            except AssertionError as error:
                self.faults.append(str(error))
            print(f"all have all {time.monotonic() - began:.1f} s after the last command", flush=True)
        self.faults += [
            f"somebody was away for {phase.away:.2f} s, at {phase.name}"
            for phase in rolled
            if phase.away > AWAY
        ]
        await self._read_logs(everybody)
        print(f"away at most {max(phase.away for phase in rolled):.2f} s in the rollout", flush=True)
        await self._read_pods()

    async def _befall(self, figures: Figures) -> list[Phase]:
        """All that happens; returns the phases of the rollout."""
        await self._phase(figures, "before", asyncio.sleep(5))
        for name in self._rolled:
            for pod in tuple(reversed(self._cluster.pods[name])):
                await self._phase(figures, f"replace {pod.name}", self._cluster.replace(pod))
        rolled = list(figures.phases)
        notes = self._cluster.notes
        self.faults += [f"in the rollout: {note}" for note in notes]
        notes.clear()
        for pod in self._cluster.pods["nats"] if self._kills else ():
            await self._phase(figures, f"kill -9 {pod.name}", self._killed(pod))
        await self._phase(figures, "after", asyncio.sleep(5))
        # Not to be ready while no server leads is as it should be; nobody but the killed may have to be started again.
        ended = [note for note in notes if "started again" in note and not note.startswith("nats-")]
        self.faults += [f"when servers died: {note}" for note in ended]
        return rolled

    async def _read_logs(self, everybody: Sequence[Member]) -> None:
        logs = await read_logs(self.connect, ROOMS)
        self.faults += judge(logs, everybody)
        asked = [one for member in everybody for one in member.asked]
        strokes = sum(one.method == "canvas.draw" for one in asked)
        events = sum(len(stored) for history in logs.values() for stored in history.values())
        told, comings = (sum(len(m.heard) for m in everybody), sum(m.comings for m in everybody))
        print(
            f"{len(everybody)} people over {', '.join(KINDS)}: {len(asked)} commands acknowledged, {strokes} of them "
            f"strokes; {events} events in the logs, {told} told in {comings} connections",
            flush=True,
        )

    async def _phase(self, figures: Figures, name: str, deed: Awaitable[object]) -> None:
        print(await figures.phase(name, "", deed), flush=True)

    async def _killed(self, pod: Pod) -> None:
        """Until it is a full member again: the next death must find a majority."""
        await pod.kill()
        async with asyncio.timeout(10):
            while pod.ready:
                await asyncio.sleep(0.02)
        await pod.until_ready(90)

    async def _read_pods(self) -> None:
        """What the programs themselves say went wrong, beside what they are made to meet."""
        for pods in self._cluster.pods.values():
            for pod in pods:
                self._cluster.logs[pod.name] = await pod.log()
        for name, log in self._cluster.logs.items():
            marks = ("iolation",) if name.startswith("nats-") else ('"level":"ERROR"', "Traceback")
            lines = [line for line in log.splitlines() if any(mark in line for mark in marks)]
            self.faults += [f"{name} logged: {line[:600]}" for line in lines[:3]]

    async def connect(self) -> Client:
        """As the operator, to any server that is there."""
        context = ssl.create_default_context(cadata=self._cluster.authority.certificate.decode())
        return await nats.connect(
            [f"tls://{pod.address}:4222" for pod in self._cluster.pods["nats"]],
            user="operator",
            password=self._cluster.manifests.secrets["nats-passwords"]["operator"],
            tls=context,
            tls_hostname="nats",
            connect_timeout=5,
        )
