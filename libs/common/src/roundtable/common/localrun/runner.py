"""Shell layer: starts the programs of a plan in order, waits until they serve, ends them in the opposite order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from .child import Child, Program, Say
from .plan import Plan, Refused

READY_WITHIN: Final = 60.0
STOP_WITHIN: Final = 10.0
"""Seconds: from start to ready, and from SIGTERM to SIGKILL."""

_LEAST: Final = 1.0
_POLL: Final = 0.05
_WRONG_SETTINGS: Final = 2
"""The status by which our programs say that their environment is wrong: trying again would not help."""


class Failed(Exception):
    """The system could not be started, or not be kept; the text says why."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status: Final = status


class Runner:
    """One run of the whole system. `run` returns the exit status: 0 when it was ended by a signal."""

    def __init__(self, plan: Plan, say: Say, ready: Callable[[float], None]) -> None:
        self._plan: Final = plan
        self._say: Final = say
        self._told_ready: Final = ready
        self._nats: list[Child] = []
        self._services: list[Child] = []
        self._gateways: list[Child] = []
        self._stopping: Final = asyncio.Event()
        self._failure: Failed | None = None
        self._ready = False
        self._lacks = "the gateway does not answer"

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
            if self._failure is not None:
                raise self._failure
        except (Failed, Refused) as failure:
            self._say("run", "ERROR", str(failure))
            return failure.status if isinstance(failure, Failed) else 2
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._end()
        return 0

    def stop(self) -> None:
        """Ends the run; asked a second time, at once."""
        if self._stopping.is_set():
            for child in self._all():
                child.kill()
        elif self._failure is None:
            self._say("run", "INFO", "stopping; once more to kill")
        self._stopping.set()

    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        return {child.name: child.pid for child in self._all() if child.pid is not None}

    def _all(self) -> list[Child]:
        return [*self._gateways, *self._services, *self._nats]

    async def _start(self) -> None:
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(READY_WITHIN):
                self._nats.append(self._child(self._plan.nats()))
                self._nats[0].start()
                await self._until(self._nats_listens)
                await self._provision()
                self._services += [self._child(program) for program in self._plan.services()]
                self._gateways.append(self._child(self._plan.gateway()))
                for child in (*self._services, *self._gateways):
                    child.start()
                await self._until(self._gateway_ready)
        except TimeoutError:
            raise Failed(f"not ready within {READY_WITHIN:g} s: {self._lacks}") from None
        self._ready = True
        self._told_ready(asyncio.get_running_loop().time() - began)

    def _child(self, program: Program) -> Child:
        return Child(program, self._say, self._on_end)

    def _on_end(self, child: Child, status: int) -> None:
        if status == _WRONG_SETTINGS and not self._ready:
            self._failure = Failed(f"{child.name} refuses its settings", _WRONG_SETTINGS)
            self.stop()

    async def _provision(self) -> None:
        status = await self._child(self._plan.provision()).once()
        if status:
            raise Failed(
                "streams and buckets could not be created",
                _WRONG_SETTINGS if status == _WRONG_SETTINGS else 1,
            )

    async def _until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        while not await holds():
            await asyncio.sleep(_POLL)

    async def _nats_listens(self) -> bool:
        answer = await _ask("127.0.0.1", self._plan.nats_port, b"", b"\n")
        return b'"jetstream":true' in answer

    async def _gateway_ready(self) -> bool:
        host, port = self._plan.ready_at
        request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        head, _, body = (await _ask(host, port, request)).partition(b"\r\n\r\n")
        self._lacks = body.decode(errors="replace") or self._lacks
        return head.split(b" ", 2)[1:2] == [b"200"]

    async def _end(self) -> None:
        """Gateway, services, nats-server, each when the one before is gone; all within the time, or killed."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + STOP_WITHIN
        for stage in (self._gateways, self._services, self._nats):
            within = max(deadline - clock(), _LEAST)
            await asyncio.gather(*(child.stop(within) for child in stage))


async def _ask(host: str, port: int, request: bytes, until: bytes = b"") -> bytes:
    """What a server on this machine says: up to those bytes, or to the end. Nothing, if it says nothing soon."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                return await (reader.readuntil(until) if until else reader.read(1 << 16))
            finally:
                writer.close()
    return b""
