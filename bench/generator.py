"""Shell: the load generator: builds `wsload/wsload.c`, tells it what to do, reads what it saw."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from .isolation import Cores

HERE: Final = Path(__file__).parent
SOURCE: Final = HERE / "wsload" / "wsload.c"
CACHE: Final = HERE / ".cache"


class Skipped(Exception):
    """Cannot be measured here; the text says why."""


class Milliseconds(Struct):
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


class LastReceiver(Struct):
    """Milliseconds until the last of a message's receivers had it; of `missed` messages one never had it."""

    n: int
    missed: int
    p50: float
    p99: float
    max: float


class Step(Struct):
    """One rate. `loss` is the share of due deliveries that never came; `srv_…` are of the processes in `pids`."""

    rate_hz: float
    msgs_per_s: float
    frames_per_s: float
    sent: int
    expected: int
    received: int
    loss: float
    blocked: int
    disconnects: int
    ms: Milliseconds
    last_ms: LastReceiver
    send_lag_p99_ms: float
    gen_cpu: float
    srv_cpu: float
    srv_us_per_msg: float

    due_us: float = 0.0
    """Microseconds of the servers' CPU for each delivery that was due."""

    @property
    def good(self) -> bool:
        """Nothing lost, and quick."""
        whole = self.received >= self.expected and not self.disconnects and not self.blocked
        return whole and self.ms.p99 <= 50


class Report(Struct):
    connect_s: float
    kb_per_conn: float
    steps: list[Step]


_decode = msgspec.json.Decoder(Report).decode


class Load(Struct, frozen=True, kw_only=True):
    """What the generator is to do. `room` begins the rooms' names: a new one for each run, or ids would be repeated ones."""

    url: str
    """With `{room}` where the number of the room goes."""
    template: str
    connections: int
    rooms: int
    senders: int | None = None
    """In each room; None: all."""
    rates: Sequence[float] = (0,)
    """Hz of each sender; a step for each."""
    seconds: float = 5
    warm: float = 1
    drain: float = 0.5
    settle: float = 0.5
    connect_limit: float = 60
    stop: bool = False
    """End at the first step that is too slow (p99 above 50 ms), or loses more than 1 %."""
    last: bool = False
    pids: Sequence[int] = ()
    tokens: Path | None = None


def build() -> Path:
    """The generator. Raises `Skipped`."""
    return compiled(SOURCE)


def compiled(source: Path) -> Path:
    """A program of one C file, compiled when its source is newer. Raises `Skipped`."""
    if sys.platform != "linux":
        raise Skipped(f"{source.stem} needs Linux (epoll)")
    compiler = shutil.which("cc")
    if compiler is None:
        raise Skipped(f"{source.stem} needs a C compiler (`cc`)")
    CACHE.mkdir(exist_ok=True)
    binary = CACHE / source.stem
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        subprocess.run([compiler, "-O2", "-o", str(binary), str(source)], check=True)
    return binary


_runs = itertools.count()


class Generator:
    def __init__(self, binary: Path, cores: Cores, folder: Path) -> None:
        self._binary = binary
        self._cores = cores
        self._folder = folder

    async def run(self, load: Load) -> Report:
        """Raises `RuntimeError` with what the generator said where it could not do it."""
        template = self._folder / f"template{next(_runs)}"
        template.write_text(load.template)
        command = [
            str(self._binary), "--json", "-t", str(template),
            "-n", str(load.connections), "-R", str(load.rooms), "-r", ",".join(f"{r:g}" for r in load.rates),
            "-d", f"{load.seconds:g}", "-w", f"{load.warm:g}", "-g", f"{load.drain:g}", "-s", f"{load.settle:g}",
            "-C", f"{load.connect_limit:g}",
        ]  # fmt: skip
        if load.senders is not None:
            command += ["-S", str(load.senders)]
        if load.pids:
            command += ["-p", ",".join(map(str, load.pids))]
        if load.tokens is not None:
            command += ["-T", str(load.tokens)]
        if load.stop:
            command += ["--stop", "50"]
        if load.last:
            command.append("--last")
        with self._cores.generator():
            process = await asyncio.create_subprocess_exec(
                *command, load.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
        try:
            out, said = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if said:
            print(said.decode(errors="replace").strip(), file=sys.stderr)
        try:
            return _decode(out)
        except msgspec.MsgspecError:
            raise RuntimeError(f"the generator ended with {process.returncode}") from None
