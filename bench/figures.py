"""Pure: figures of repeated runs, and tables of them. Knows nothing of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """What repeated runs gave."""

    least: float
    middle: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = sorted(values)
        return cls(found[0], median(found), found[-1])

    def __str__(self) -> str:
        """`least – middle – most`, or the one figure where they look the same."""
        shown = [short(value) for value in self]
        return shown[1] if shown[0] == shown[2] else " – ".join(shown)


def short(value: float) -> str:
    """Three digits that mean something, no more."""
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:,.0f} k"
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Run by run: what was measured next to each other is compared with each other."""
    return Spread.of(mine / other for mine, other in zip(ours, theirs, strict=True))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank, of values in ascending order."""
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))] if ordered else 0.0


class Table(NamedTuple):
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        lines = [self.head, tuple("---" for _ in self.head), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Section(NamedTuple):
    """What one row says."""

    title: str
    about: str
    table: Table
    notes: list[str]
    """What a reader must know to trust the figures, and verdicts on promises."""

    def markdown(self, command: str) -> str:
        parts = [f"## {self.title}", self.about, self.table.markdown()]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join([*parts, f"Repeat: `{command}`"])


def verdict(promise: str, value: float, limit: float, *, at_most: bool = True) -> str:
    """By the median alone; the table has the spread."""
    kept = value <= limit if at_most else value >= limit
    return f"Promise: {promise}. Median {short(value)}: {'kept' if kept else '**not kept**'}."
