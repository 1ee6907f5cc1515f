"""Which metrics there are, and which an expression asks for. Knows neither rules nor dashboards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"(?<![\w:.$\"])([a-zA-Z_:][\w:]*)(?![\w:(]|\s*\()")
_STANDARD: Final = frozenset(
    {"up", "ALERTS"}
    | {f"process_{what}" for what in ("cpu_seconds_total", "resident_memory_bytes", "start_time_seconds")}
    | {"process_open_fds", "process_max_fds"}
)
"""Prometheus's own, and those of every process."""
_WORDS: Final = frozenset({"by", "without", "on", "ignoring", "and", "or", "unless", "offset", "bool"})


def known(root: Path, recorded: frozenset[str]) -> frozenset[str]:
    """All names of series: the generated table's, with what a histogram has, and the recorded ones."""
    names: set[str] = set()
    for line in (root / "docs" / "metrics.md").read_text().splitlines():
        row = re.match(r"\| `(\w+)` \| (\w+) ", line)
        if row and row[2] == "histogram":
            names.update(f"{row[1]}_{part}" for part in ("bucket", "sum", "count"))
        elif row:
            names.add(row[1])
    return frozenset(names) | _STANDARD | recorded


def asked(expr: str) -> frozenset[str]:
    """The names of series in an expression."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", expr)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    return frozenset(name for name in _NAME.findall(bare) if name not in _WORDS)


def selectors(expr: str) -> list[str]:
    """The series that an expression looks at: names with what stands in braces after them."""
    found = re.findall(r"([a-zA-Z_:][\w:]*)(\{[^}]*\})?", re.sub(r"\[[^\]]*\]", "", expr))
    names = asked(expr)
    return sorted({name + braces for name, braces in found if name in names})
