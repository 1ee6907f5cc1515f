"""Runs every check: `python -m deploy.checks [NAME …]`. Knows no check: whatever module beside it has `check` is one.

A check module has a docstring whose first line says what it looks at, and `check(root) -> list[str]`: the faults that it found
in the project at `root`, none if all is well. It raises `Unavailable` when it lacks a tool, and `Broken` when it cannot go on.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Final

from .result import Broken, Unavailable

ROOT: Final = Path(__file__).resolve().parents[2]


def modules() -> list[ModuleType]:
    names = sorted(each.name for each in pkgutil.iter_modules([str(Path(__file__).parent)]))
    found = [importlib.import_module(f"{__package__}.{name}") for name in names if name != "__main__"]
    return [module for module in found if hasattr(module, "check")]


def run(module: ModuleType, root: Path, *, strict: bool) -> bool:
    """Prints a line, and the faults below it. `strict`: a check that could not be made has failed."""
    name = module.__name__.rpartition(".")[2]
    what = (module.__doc__ or name).partition("\n")[0]
    began = time.monotonic()
    try:
        faults = module.check(root)
        verdict = "FAILED" if faults else "ok"
    except Broken as broken:
        verdict, faults = "FAILED", [str(broken)]
    except Unavailable as lacking:
        verdict, faults = "FAILED" if strict else "SKIPPED", [f"not checked: {lacking}"]
    print(f"{verdict:8}{name:14}{what} ({time.monotonic() - began:.1f} s)", flush=True)
    for fault in faults:
        print(f"        - {fault}", flush=True)
    return verdict != "FAILED"


def main(wanted: list[str]) -> int:
    known = {module.__name__.rpartition(".")[2]: module for module in modules()}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"no such check: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    strict = bool(os.environ.get("CI"))
    results = [run(known[name], ROOT, strict=strict) for name in wanted or known]
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
