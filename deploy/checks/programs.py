"""Running other programs for the checks. No check itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .result import Unavailable

Done = subprocess.CompletedProcess[str]


def run(
    *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, seconds: float = 300
) -> Done:
    """Waits for it. What its status means is the caller's to say."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def installed(name: str) -> Path:
    """A program of the checks' own environment. Raises `Unavailable`."""
    program = Path(sys.prefix) / name
    if not program.exists():
        raise Unavailable(f"no {program.name}: make check-deploy installs it")
    return program


def go_tool(name: str, module: str) -> Path:
    """A Go program at a pinned version, built once in the checks' own environment. Raises `Unavailable`."""
    home = Path(sys.prefix) / "go-tools" / module.rpartition("@")[2]
    if not (home / name).exists():
        print(f"        building {module}, once", file=sys.stderr, flush=True)
        environment = {"GOBIN": str(home), "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
        done = run(installed("bin/go"), "install", module, env=environment, seconds=900)
        if done.returncode:
            raise Unavailable(f"go install {module}: {done.stderr.strip()[-500:]}")
    return home / name
