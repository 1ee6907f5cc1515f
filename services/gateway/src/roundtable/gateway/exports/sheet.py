"""Pure layer: the sheet of paper that a canvas is drawn on: what of the map it shows. Knows no file format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from math import hypot
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

PAPER: Final = "#ffffff"
"""An eraser shows the paper again, so it draws in this colour."""
MARGIN: Final = 16.0
EMPTY: Final = (400.0, 300.0)
_COLOR: Final = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8})\Z", re.IGNORECASE)


class Spot(Struct, frozen=True, gc=False):
    x: float
    y: float


class Mark(Struct, frozen=True):
    """What of an operation it takes to draw it."""

    tool: str
    points: tuple[Spot, ...]
    color: str
    size: float

    @property
    def ink(self) -> tuple[str, float]:
        """`#rrggbb` and the opacity, 0 to 1. Only hexadecimal digits ever come out of here."""
        if self.tool == "eraser":
            return PAPER, 1.0
        digits = self.color[1:].lower() if _COLOR.match(self.color) else "000000"
        if len(digits) == 3:
            digits = "".join(digit * 2 for digit in digits)
        return f"#{digits[:6]}", int(digits[6:] or "ff", 16) / 255

    @property
    def radius(self) -> float:
        """Of a circle: centre and rim are its points."""
        centre, rim = self.points[0], self.points[-1]
        return hypot(rim.x - centre.x, rim.y - centre.y)

    @property
    def line(self) -> Sequence[Spot]:
        """The points that a pen goes through; a rectangle's are its four corners, and the first again."""
        if self.tool != "rectangle":
            return self.points
        (a, *_, b) = self.points
        return (a, Spot(b.x, a.y), b, Spot(a.x, b.y), a)


class _Canvas(Struct):
    operations: list[Raw]


class Marks:
    """The operations of an answer to `canvas.state`, in drawing order, each decoded when it is looked at: they may be many."""

    def __init__(self, canvas: bytes) -> None:
        """Raises `msgspec.MsgspecError`, as does looking at them."""
        self._operations = msgspec.json.decode(canvas, type=_Canvas).operations

    def __iter__(self) -> Iterator[Mark]:
        return map(_decode, self._operations)


_decode: Final = msgspec.json.Decoder(Mark).decode


class Sheet(NamedTuple):
    """A part of the map, in map units."""

    left: float
    top: float
    width: float
    height: float


def sheet_of(marks: Iterable[Mark]) -> Sheet:
    """As large as all that was drawn, and a margin. What an eraser did elsewhere leaves nothing to see."""
    left = top = float("inf")
    right = bottom = float("-inf")
    for mark in marks:
        if mark.tool == "eraser":
            continue
        reach = mark.size / 2
        points = mark.points
        if mark.tool == "circle":
            reach += mark.radius
            points = mark.points[:1]
        left = min(left, min([spot.x for spot in points]) - reach)
        top = min(top, min([spot.y for spot in points]) - reach)
        right = max(right, max([spot.x for spot in points]) + reach)
        bottom = max(bottom, max([spot.y for spot in points]) + reach)
    if left > right:
        return Sheet(0.0, 0.0, *EMPTY)
    return Sheet(left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN)
