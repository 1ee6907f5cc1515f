"""Test layer: the whole system as real processes: a nats-server, gateways and services, each killable by its pid."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from .nats import NatsServer, free_port

SECRET: Final = "a-secret-for-tests-of-more-than-32-bytes"
SERVICES: Final = ("canvas", "presence", "activity")


class Program:
    """One process of ours. `start` after an end starts it again with the same name and port."""

    def __init__(self, name: str, service: str, environment: dict[str, str], home: Path) -> None:
        self.name = name
        self.service = service
        self.port = free_port()
        self.log_file = home / f"{name}.log"
        self._environment = environment | {
            "ROUNDTABLE_INSTANCE": name,
            "ROUNDTABLE_HTTP_PORT": str(self.port),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        with self.log_file.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"roundtable.{self.service}"],
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    async def ready(self, within: float = 60.0) -> None:
        """Returns when `/readyz` says 200. Raises `RuntimeError` with the end of its log."""
        deadline = asyncio.get_running_loop().time() + within
        while asyncio.get_running_loop().time() < deadline:
            if not self.running:
                break
            if await self.status("/readyz") == 200:
                return
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{self.name} is not ready:\n{self.log()[-3_000:]}")

    async def status(self, path: str) -> int:
        """The status of a plain GET; 0 when nobody answers."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            line = await asyncio.wait_for(reader.readline(), 5)
            writer.close()
            return int(line.split()[1])
        except (OSError, TimeoutError, IndexError, ValueError):
            return 0

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self, how: signal.Signals = signal.SIGTERM, within: float = 20.0) -> int:
        """Ends it and returns its exit status."""
        assert self._process is not None
        process = self._process
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            return await asyncio.to_thread(process.wait, within)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
            raise RuntimeError(
                f"{self.name} did not end within {within:g} s:\n{self.log()[-3_000:]}"
            ) from None

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)


class System:
    """`gateways` and `replicas` say how many of each; `settings` are further ROUNDTABLE_ variables, without the prefix.

    `nats` is added to the configuration of its server.
    """

    def __init__(
        self,
        home: Path,
        *,
        gateways: int = 1,
        replicas: int = 1,
        sync: bool = False,
        settings: dict[str, str] | None = None,
        nats: str = "",
    ) -> None:
        self.home = home
        self.nats = NatsServer(home, extra=nats, jetstream="sync_interval: always" if sync else "")
        self._counts = {"gateway": gateways} | dict.fromkeys(SERVICES, replicas)
        self._settings = settings or {}
        self.programs: list[Program] = []

    def of(self, service: str) -> list[Program]:
        return [program for program in self.programs if program.service == service]

    @property
    def gateway(self) -> Program:
        return self.of("gateway")[0]

    def environment(self) -> dict[str, str]:
        values = {
            "NATS_URL": self.nats.url,
            "JWT_SECRET": SECRET,
            "DRAIN_SECONDS": "1",
            "MESSAGES_PER_MINUTE": "0",
            "MAX_CONNECTIONS_PER_USER": "0",
            "MAX_CONNECTIONS_PER_ADDRESS": "0",
            **self._settings,
        }
        return {f"ROUNDTABLE_{name}": value for name, value in values.items()}

    async def add(self, service: str, name: str = "", **settings: str) -> Program:
        """One more; `settings` are its own, in place of the system's. It may not be ready yet."""
        number = len(self.of(service))
        own = {f"ROUNDTABLE_{key}": value for key, value in settings.items()}
        program = Program(name or f"{service}-{number}", service, self.environment() | own, self.home)
        self.programs.append(program)
        program.start()
        return program

    @asynccontextmanager
    async def further_gateways(self) -> AsyncIterator[Callable[..., Awaitable[Program]]]:
        """A function that starts one more, ready, with settings of its own; all of them end with the block."""
        started: list[Program] = []

        async def start(**settings: str) -> Program:
            program = await self.add("gateway", **settings)
            started.append(program)
            await program.ready()
            return program

        yield start
        for program in started:
            self.programs.remove(program)
            if program.running:
                await program.kill()

    async def __aenter__(self) -> System:
        await self.nats.start()
        try:
            for service, count in self._counts.items():
                for _ in range(count):
                    await self.add(service)
            await asyncio.gather(*(program.ready() for program in self.programs))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self.programs:
            if program.running:
                await program.kill()
        await self.nats.kill()


@asynccontextmanager
async def system(
    *, gateways: int = 1, replicas: int = 1, sync: bool = False, settings: dict[str, str] | None = None
) -> AsyncIterator[System]:
    """A system of one's own in a directory that goes with it; the logs are told when the test fails."""
    with tempfile.TemporaryDirectory(prefix="roundtable-") as home:
        async with System(
            Path(home), gateways=gateways, replicas=replicas, sync=sync, settings=settings
        ) as running:
            try:
                yield running
            except BaseException:
                for program in running.programs:
                    print(f"--- {program.name}\n{program.log()[-2_000:]}")
                raise
