"""A browser, a driver or a screen as a process that ends with its children."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Self

from roundtable.common.testing.nats import free_port

__all__ = ["Program", "free_port"]


TIDIES_WITHIN = 5.0


class Program:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, *command: str, home: Path, listens: int = 0, within: float = 20.0, **environment: str
    ) -> Self:
        """Returns when it listens on its port. `home` is its home and holds its log."""
        with (home / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"HOME": str(home), "TMPDIR": str(home)} | environment,
                start_new_session=True,
            )
        program = cls(process)
        try:
            if listens:
                async with asyncio.timeout(within):
                    await program._listens(listens)
        except BaseException:
            await program.end()
            print((home / "log").read_text(errors="replace")[-2_000:])
            raise
        return program

    async def _listens(self, port: int) -> None:
        while True:
            if self._process.returncode is not None:
                raise RuntimeError(f"ended with status {self._process.returncode}")
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)

    async def end(self) -> None:
        """With all that it started: they are a session of their own. It may tidy up first: a screen has a socket to remove."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), TIDIES_WITHIN)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
