"""Shell layer: one program that is kept alive: started, listened to, started again when it dies, ended. Knows no other."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from .lines import Splitter

FIRST_DELAY: Final = 0.2
LAST_DELAY: Final = 5.0
SETTLED: Final = 10.0
"""Seconds: the first and the longest pause before a restart, and the life after which the pause is the first again."""

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

Say = Callable[[str, str, str], None]
"""Takes a program's name, a level and a text; with the level empty, the text is a line of the program itself."""


class Program(NamedTuple):
    """What to start. The environment is whole: nothing of ours is inherited besides."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


class Child:
    """Keeps its program running from `start` to `stop`.

    The program gets a session of its own, so that the terminal's Ctrl-C reaches only us; on Linux the kernel kills it when
    we are gone, however that came.
    """

    def __init__(
        self, program: Program, say: Say, ended: Callable[[Child, int], None], *, pause: float = FIRST_DELAY
    ) -> None:
        self.program: Final = program
        self.name: Final = program.name
        self.starts = 0
        self._say: Final = say
        self._ended: Final = ended
        self._first_pause: Final = pause
        self._stopping: Final = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Its process while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=self.name)

    async def once(self) -> int:
        """Runs the program to its end instead of keeping it: its exit status, negative for a signal."""
        return await self._run()

    async def stop(self, within: float) -> None:
        """SIGTERM, and SIGKILL to what is still there after that many seconds. Returns when nothing of it is left."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
        if self._task is not None:
            done, _ = await asyncio.wait((self._task,), timeout=within)
            if not done:
                self._say(self.name, "WARNING", f"still there after {within:.1f} s: killed")
                self.kill()
            await asyncio.gather(self._task, return_exceptions=True)

    def kill(self) -> None:
        """SIGKILL, now, to all of its session; it is not started again."""
        self._stopping.set()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        pause = self._first_pause
        while not self._stopping.is_set():
            began = clock()
            status = await self._run()
            if self._stopping.is_set():
                return
            if clock() - began >= SETTLED:
                pause = self._first_pause
            self._ended(self, status)
            if self._stopping.is_set():  # whoever was told may have ended us
                return
            self._say(self.name, "WARNING", f"{_how(status)}; again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, LAST_DELAY)

    async def _run(self) -> int:
        """One life of the program. Its output comes by a pipe of ours, so that a grandchild holding it delays nothing."""
        reading, writing = os.pipe()
        loop = asyncio.get_running_loop()
        transport, output = await loop.connect_read_pipe(
            lambda: _Output(lambda line: self._say(self.name, "", line)), os.fdopen(reading, "rb")
        )
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=dict(self.program.environment),
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )
            os.close(writing)
            writing = -1
            self.starts += 1
            if self._stopping.is_set():  # told to stop while it was being started
                self.signal(signal.SIGTERM)
            status = await self._process.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(output.closed.wait(), 0.5)
            return status
        except OSError as error:
            self._say(self.name, "ERROR", f"cannot be started: {error}")
            return 127
        finally:
            if self._process is not None and self._process.returncode is None:  # we were cancelled
                self.kill()
            self._process = None
            if writing >= 0:
                os.close(writing)
            transport.close()


class _Output(asyncio.Protocol):
    """The reading end of a program's output."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.closed: Final = asyncio.Event()
        self._show: Final = show
        self._splitter: Final = Splitter()

    def data_received(self, data: bytes) -> None:
        for line in self._splitter.feed(data):
            self._show(line)

    def connection_lost(self, _: Exception | None) -> None:
        for line in self._splitter.close():
            self._show(line)
        self.closed.set()


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a new process does before it becomes the program: asks the kernel to be killed when its parent dies."""
    if _LIBC is None:
        return None

    def ask() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it has died meanwhile
            os._exit(1)

    return ask


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"
