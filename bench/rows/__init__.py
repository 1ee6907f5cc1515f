"""One module for each family of rows; `ALL` in the order in which they run."""

from __future__ import annotations

from typing import Final

from ..bench import Row
from . import capacity, commands, fanout, memory, page, stroke

ALL: Final[tuple[Row, ...]] = (fanout.ROW, capacity.ROW, stroke.ROW, commands.ROW, memory.ROW, page.ROW)
