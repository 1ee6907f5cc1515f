"""Pure layer: a drawing as PNG. Knows no clock, no room, no transport.

Drawn larger and made smaller (16 samples a pixel), for smooth edges, in bands, so that memory is bounded whatever the size.
"""

from __future__ import annotations

from io import BytesIO
from math import ceil, floor, hypot
from typing import Final

from PIL import Image, ImageDraw

from .drawing import Box, Colour, Drawing, Mark, colour_of, line_of

MOST: Final = 4_096
"""Pixels of a side."""
USUAL: Final = 2_048
"""Of the longer side, if no width is asked for …"""
ENLARGED: Final = 2.0
"""… but no more than these for a map unit: one dot needs no large picture."""
SAMPLES: Final = 4
"""A side: their square is how many colours a pixel's own is made of."""
_BAND: Final = 8 << 20
"""Samples that are in memory at once, of 4 bytes."""
_CLEAR: Final = (0, 0, 0, 0)


def png(drawing: Drawing, width: int = 0) -> bytes:
    """With 0 the width is what suits. It gets less than was asked where the height would be over `MOST`."""
    frame = drawing.frame
    longer = max(frame.width, frame.height)
    scale = width / frame.width if width else min(USUAL / longer, ENLARGED)
    scale = min(scale, MOST / longer)
    wide, high = (min(max(1, round(side * scale)), MOST) for side in (frame.width, frame.height))
    picture = Image.new("RGBA", (wide, high), _CLEAR)
    step = max(1, _BAND // (wide * SAMPLES * SAMPLES))
    for top in range(0, high, step):
        rows = min(step, high - top)
        place = Box(frame.left, frame.top + top / scale, frame.right, frame.top + (top + rows) / scale)
        band = _Band(wide, rows, scale, place)
        for mark, box in drawing.marks(within=place):
            band.paint(mark, box)
        picture.paste(band.image.reduce(SAMPLES), (0, top))
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


class _Band:
    def __init__(self, wide: int, high: int, scale: float, place: Box) -> None:
        self.image = Image.new("RGBA", (wide * SAMPLES, high * SAMPLES), _CLEAR)
        self._draw = ImageDraw.Draw(self.image)
        self._scale = scale * SAMPLES
        self._place = place

    def paint(self, mark: Mark, box: Box) -> None:
        colour = colour_of(mark.color)
        if mark.tool == "eraser":
            self._trace(self._draw, mark, _CLEAR)
        elif colour[3] == 255:
            self._trace(self._draw, mark, colour)
        elif colour[3]:
            self._glaze(mark, box, colour)

    def _glaze(self, mark: Mark, box: Box, colour: Colour) -> None:
        """Lets shine through what is below. A line that crosses itself is no denser there: first its shape, then its ink."""
        left, top = self._at(box.left, box.top)
        right, bottom = self._at(box.right, box.bottom)
        left, top = max(0, floor(left) - SAMPLES), max(0, floor(top) - SAMPLES)
        right = min(self.image.width, ceil(right) + SAMPLES)
        bottom = min(self.image.height, ceil(bottom) + SAMPLES)
        if left >= right or top >= bottom:
            return
        layer = Image.new("RGBA", (right - left, bottom - top), (*colour[:3], 0))
        self._trace(ImageDraw.Draw(layer), mark, colour, left, top)
        self.image.alpha_composite(layer, (left, top))

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (x - self._place.left) * self._scale, (y - self._place.top) * self._scale

    def _trace(
        self, draw: ImageDraw.ImageDraw, mark: Mark, colour: Colour, left: int = 0, top: int = 0
    ) -> None:
        """At least a pixel wide: on a large map a line must not become too fine to be seen."""
        size = max(mark.size * self._scale, SAMPLES)
        half, pen = size / 2, max(1, round(size))
        if mark.tool == "circle":
            first, last = mark.points[0], mark.points[-1]
            x, y = self._at(first.x, first.y)
            reach = hypot(last.x - first.x, last.y - first.y) * self._scale + half
            draw.ellipse(
                _disc(x - left, y - top, reach),
                outline=colour,
                width=pen,
                fill=colour if reach <= size else None,
            )
            return
        scale, dx, dy = self._scale, self._place.left, self._place.top
        line = [
            (floor((spot.x - dx) * scale) - left, floor((spot.y - dy) * scale) - top)
            for spot in line_of(mark)
        ]
        line = _thinned(line, max(1, pen // 4))
        if len(line) > 1:
            draw.line(line, fill=colour, width=pen)
        for x, y in line:  # round ends and bends
            draw.ellipse(_disc(x, y, half), fill=colour)


def _disc(x: float, y: float, reach: float) -> tuple[float, float, float, float]:
    return x - reach, y - reach, x + reach, y + reach


def _thinned(line: list[tuple[int, int]], step: int) -> list[tuple[int, int]]:
    """Without points that are nearer to the one before than the pen could show; the ends stay."""
    kept = [line[0]]
    x, y = line[0]
    for point in line:
        if abs(point[0] - x) >= step or abs(point[1] - y) >= step:
            kept.append(point)
            x, y = point
    if kept[-1] != line[-1]:
        kept.append(line[-1])
    return kept
