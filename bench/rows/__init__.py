"""One module for each family of rows; `ALL` in the order in which they run."""

from __future__ import annotations

from typing import Final

from ..bench import Row
from . import capacity, commands, fanout, joining, memory, page, quiet, replay, stroke, sweep

ALL: Final[tuple[Row, ...]] = (
    fanout.ROW,
    capacity.ROW,
    quiet.ROW,
    stroke.ROW,
    commands.ROW,
    joining.ROW,
    replay.ROW,
    memory.ROW,
    sweep.ROW,
    page.ROW,
)
