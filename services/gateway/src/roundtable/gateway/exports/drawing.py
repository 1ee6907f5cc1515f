"""Pure layer: a canvas's operations as a drawing: what is where, and the whole as SVG. Knows no clock, no room, no transport.

Everything in the SVG is a number or a colour that was read as one, so there is nothing in it to escape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import hypot
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

Colour = tuple[int, int, int, int]
"""Red, green, blue, alpha, of 255 each."""

TOOLS: Final = frozenset({"pen", "eraser", "rectangle", "circle"})


class Spot(Struct, gc=False):
    x: float
    y: float


class Mark(Struct, gc=False):
    """What a drawing needs of a stored operation. The tool may be one of a later version: then it is not drawn."""

    tool: str
    points: tuple[Spot, ...]
    color: str
    size: float


_decode: Final = msgspec.json.Decoder(Mark).decode


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def meets(self, other: Box) -> bool:
        return (
            self.left <= other.right
            and other.left <= self.right
            and self.top <= other.bottom
            and other.top <= self.bottom
        )

    def grown(self, by: float) -> Box:
        return Box(self.left - by, self.top - by, self.right + by, self.bottom + by)


EMPTY: Final = Box(0, 0, 100, 100)
"""What is shown of a canvas without anything on it."""


def around(boxes: Sequence[Box]) -> Box:
    """The box around at least one."""
    return Box(
        min([box.left for box in boxes]),
        min([box.top for box in boxes]),
        max([box.right for box in boxes]),
        max([box.bottom for box in boxes]),
    )


class Drawing:
    """Operations in drawing order, each JSON, as whose objects they would take many times the memory.

    `pause` is called before each one that is read; it may raise, to give up.
    """

    def __init__(self, operations: Sequence[Raw], pause: Callable[[], None]) -> None:
        self._operations = operations
        self._pause = pause
        self.boxes: Final[list[Box | None]] = []
        """Where each operation leaves ink or takes it; None for one that cannot be drawn."""
        ink: list[Box] = []
        for mark in self._read(range(len(operations))):
            box = box_of(mark) if mark.tool in TOOLS and mark.points else None
            self.boxes.append(box)
            if box is not None and mark.tool != "eraser":
                ink.append(box)
        tight = around(ink) if ink else EMPTY
        margin = max(tight.width, tight.height) / 50 if ink else 0.0
        self.frame: Final = tight.grown(margin)

    def marks(self, within: Box | None = None) -> Iterator[tuple[Mark, Box]]:
        """In drawing order; only those that touch the box, if there is one."""
        numbers = [
            number
            for number, box in enumerate(self.boxes)
            if box is not None and (within is None or box.meets(within))
        ]
        for number, mark in zip(numbers, self._read(numbers), strict=True):
            box = self.boxes[number]
            assert box is not None
            yield mark, box

    def _read(self, numbers: Sequence[int]) -> Iterator[Mark]:
        for number in numbers:
            self._pause()
            yield _decode(self._operations[number])


def box_of(mark: Mark) -> Box:
    first, last = mark.points[0], mark.points[-1]
    if mark.tool == "circle":
        reach = hypot(last.x - first.x, last.y - first.y) + mark.size / 2
        return Box(first.x, first.y, first.x, first.y).grown(reach)
    across = [point.x for point in mark.points]
    down = [point.y for point in mark.points]
    return Box(min(across), min(down), max(across), max(down)).grown(mark.size / 2)


def line_of(mark: Mark) -> list[Spot]:
    """The line that a pen, an eraser or a rectangle follows, without steps that lead nowhere; one spot is a dot."""
    if mark.tool == "rectangle":
        a, b = mark.points[0], mark.points[-1]
        corners: Sequence[Spot] = (a, Spot(b.x, a.y), b, Spot(a.x, b.y), a)
    else:
        corners = mark.points
    line = [corners[0]]
    for spot in corners:
        if spot != line[-1]:
            line.append(spot)
    return line


def colour_of(text: str) -> Colour:
    """`#rgb`, `#rrggbb` or `#rrggbbaa`; black for what is none of them."""
    digits = text[1:]
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    try:
        red, green, blue, *rest = bytes.fromhex(digits)
    except ValueError:
        return 0, 0, 0, 255
    return red, green, blue, rest[0] if rest else 255


# -- SVG

_HEAD: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="%.9g %.9g %.9g %.9g" fill="none"'
    ' stroke-linecap="round" stroke-linejoin="round">\n'
)


class _Eraser(NamedTuple):
    name: str
    box: Box


class _Stretch(Struct):
    """Erasers, then what was drawn after them until the next eraser."""

    erasers: list[_Eraser]
    ink: list[str]
    box: Box | None = None
    """Around the ink; None: there is none."""


class _Writer:
    """An eraser must take away what is under it and nothing that came later, which masks do, of groups of what came before.

    A group in a group for each eraser would be nested as deep as there are erasers, and no viewer could show it. So the
    stretches between erasers are halved again and again: of two halves the earlier one is masked by the erasers of the
    later one. Each eraser meets everything before it in exactly one mask, and n stretches are nested no deeper than log2 n.
    """

    def __init__(self, drawing: Drawing) -> None:
        self._masks = 0
        self._margin = drawing.frame.grown(1)
        self._stretches = [_Stretch([], [])]
        self.parts: Final = [_HEAD % _rectangle(drawing.frame)]
        boxes: list[Box] = []
        erasing: list[str] = []
        for mark, box in drawing.marks():
            last = self._stretches[-1]
            if mark.tool == "eraser":
                if last.ink:
                    last.box, boxes = around(boxes), []
                    last = _Stretch([], [])
                    self._stretches.append(last)
                name = f"e{len(erasing)}"
                erasing.append(_element(mark, (0, 0, 0, 255), f' id="{name}"'))
                last.erasers.append(_Eraser(name, box))
            else:
                last.ink.append(_element(mark, colour_of(mark.color)))
                boxes.append(box)
        if boxes:
            self._stretches[-1].box = around(boxes)
        if erasing:
            self.parts.extend(("<defs>\n", *erasing, "</defs>\n"))
        self._write(0, len(self._stretches))
        self.parts.append("</svg>\n")

    def _write(self, begin: int, end: int) -> None:
        if end - begin == 1:
            self.parts.extend(self._stretches[begin].ink)
            return
        middle = (begin + end) // 2
        inked = [each.box for each in self._stretches[begin:middle] if each.box is not None]
        erasers: list[_Eraser] = []
        if inked:
            box = around(inked)
            later = (eraser for each in self._stretches[middle:end] for eraser in each.erasers)
            erasers = [eraser for eraser in later if eraser.box.meets(box)]
        if erasers:
            self._masks += 1
            left, top, width, height = _rectangle(box.grown(1))
            place = f'x="{left:.9g}" y="{top:.9g}" width="{width:.9g}" height="{height:.9g}"'
            uses = "".join([f'<use href="#{eraser.name}"/>' for eraser in erasers])
            self.parts.append(
                f'<mask id="m{self._masks}" maskUnits="userSpaceOnUse" {place}>'
                f'<rect fill="#fff" {place}/>{uses}</mask>\n<g mask="url(#m{self._masks})">\n'
            )
            self._write(begin, middle)
            self.parts.append("</g>\n")
        else:
            self._write(begin, middle)
        self._write(middle, end)


def svg(drawing: Drawing) -> bytes:
    return "".join(_Writer(drawing).parts).encode()


def _rectangle(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.width, box.height


def _element(mark: Mark, colour: Colour, more: str = "") -> str:
    first, last = mark.points[0], mark.points[-1]
    paint = "#{:02x}{:02x}{:02x}".format(*colour[:3])
    faint = colour[3] / 255
    line = [first] if mark.tool == "circle" else line_of(mark)
    radius = hypot(last.x - first.x, last.y - first.y) if mark.tool == "circle" else 0.0
    if len(line) == 1 and not radius:  # no stroke has an extent there: a dot is filled
        opacity = "" if colour[3] == 255 else f' fill-opacity="{faint:.3g}"'
        place = f'cx="{first.x:.9g}" cy="{first.y:.9g}" r="{mark.size / 2:.9g}"'
        return f'<circle{more} {place} fill="{paint}"{opacity}/>\n'
    opacity = "" if colour[3] == 255 else f' stroke-opacity="{faint:.3g}"'
    brush = f'stroke="{paint}"{opacity} stroke-width="{mark.size:.9g}"'
    if mark.tool == "circle":
        return f'<circle{more} cx="{first.x:.9g}" cy="{first.y:.9g}" r="{radius:.9g}" {brush}/>\n'
    points = " ".join(["%.9g,%.9g" % (spot.x, spot.y) for spot in line])  # noqa: UP031 - the fastest by far
    return f'<polyline{more} points="{points}" {brush}/>\n'
