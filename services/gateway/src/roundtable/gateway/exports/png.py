"""Adapter layer: a canvas as PNG, by Pillow. Knows no room and no time limit: whoever starts it may end it.

It is drawn twice as large, then made smaller, which smooths the edges. No picture has more than `SIDE` pixels a side.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from math import ceil, hypot
from typing import Final

from PIL import Image, ImageDraw

from .sheet import PAPER, Mark, Sheet, sheet_of

SIDE: Final = 2_048
FINER: Final = 2
"""Times as large as the picture."""
THINNEST: Final = 1.0
"""Pixels of the picture: so much of a line is always seen, however far away."""

Box = tuple[float, float, float, float]
Pixel = tuple[float, float]


def png(marks: Iterable[Mark], side: int = SIDE) -> bytes:
    """`marks` is gone through twice."""
    sheet = sheet_of(marks)
    scale = min(1.0, side / max(sheet.width, sheet.height))
    size = (max(1, min(side, ceil(sheet.width * scale))), max(1, min(side, ceil(sheet.height * scale))))
    image = Image.new("RGB", (size[0] * FINER, size[1] * FINER), PAPER)
    brush = _Brush(image, sheet, scale * FINER)
    for mark in marks:
        brush.apply(mark)
    out = io.BytesIO()
    image.reduce(FINER).save(out, "PNG")
    return out.getvalue()


class _Brush:
    def __init__(self, image: Image.Image, sheet: Sheet, scale: float) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)
        self._sheet = sheet
        self._scale = scale

    def apply(self, mark: Mark) -> None:
        color, opacity = mark.ink
        width = max(mark.size * self._scale, THINNEST * FINER)
        line = [self._pixel(spot.x, spot.y) for spot in mark.line]
        radius = mark.radius * self._scale
        box = self._visible(
            _extent(line[:1], radius + width) if mark.tool == "circle" else _extent(line, width)
        )
        if box is None:
            return
        if opacity == 1:
            _paint(self._draw, mark, line, radius, width, color)
            return
        # Where a faint line crosses itself it is no darker: so its shape first, then the colour through it.
        left, top, right, bottom = box
        shape = Image.new("L", (right - left, bottom - top))
        moved = [(x - left, y - top) for x, y in line]
        _paint(ImageDraw.Draw(shape), mark, moved, radius, width, round(255 * opacity))
        self._image.paste(color, box, shape)

    def _pixel(self, x: float, y: float) -> Pixel:
        return (x - self._sheet.left) * self._scale, (y - self._sheet.top) * self._scale

    def _visible(self, extent: Box) -> tuple[int, int, int, int] | None:
        """The part of the picture that it touches; None: an eraser's, beside the sheet."""
        left, top = max(0, int(extent[0])), max(0, int(extent[1]))
        right, bottom = min(self._image.width, ceil(extent[2])), min(self._image.height, ceil(extent[3]))
        return (left, top, right, bottom) if left < right and top < bottom else None


def _extent(line: Sequence[Pixel], reach: float) -> Box:
    across, down = [x for x, _ in line], [y for _, y in line]
    return min(across) - reach, min(down) - reach, max(across) + reach, max(down) + reach


def _paint(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    line: Sequence[Pixel],
    radius: float,
    width: float,
    fill: str | int,
) -> None:
    if mark.tool == "circle" and radius > 0:
        draw.ellipse(_round(line[0], radius + width / 2), outline=fill, width=round(width))
        return
    path = list(_apart(line))
    if len(path) > 1:
        draw.line(path, fill=fill, width=round(width))
    for spot in path:  # round ends and joints
        draw.ellipse(_round(spot, width / 2), fill=fill)


def _round(centre: Pixel, radius: float) -> Box:
    """Pillow counts the pixel at the end in."""
    return centre[0] - radius, centre[1] - radius, centre[0] + radius - 1, centre[1] + radius - 1


def _apart(line: Sequence[Pixel]) -> Iterator[Pixel]:
    """Without points within a pixel of the last one, but with the last of all."""
    kept = line[0]
    yield kept
    for spot in line[1:-1]:
        if hypot(spot[0] - kept[0], spot[1] - kept[1]) >= 1:
            kept = spot
            yield kept
    if len(line) > 1:
        yield line[-1]
