"""Pure layer: a canvas as SVG. Nothing that somebody typed gets into it: numbers, hexadecimal digits and our own words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from .sheet import PAPER, Mark, sheet_of


def svg(marks: Iterable[Mark]) -> Iterator[str]:
    """In pieces, which make one document. `marks` is gone through twice."""
    sheet = sheet_of(marks)
    left, top, width, height = map(number, sheet)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left} {top} {width} {height}"'
        f' width="{width}" height="{height}">\n'
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="{PAPER}"/>\n'
        '<g fill="none" stroke-linecap="round" stroke-linejoin="round">\n'
    )
    for mark in marks:
        yield f"<{_shape(mark)}{_stroke(mark)}/>\n"
    yield "</g>\n</svg>\n"


def _shape(mark: Mark) -> str:
    first, last = mark.points[0], mark.points[-1]
    if mark.tool == "circle" and mark.radius:
        return f'circle cx="{number(first.x)}" cy="{number(first.y)}" r="{number(mark.radius)}"'
    if mark.tool == "rectangle" and first.x != last.x and first.y != last.y:
        x, y = number(min(first.x, last.x)), number(min(first.y, last.y))
        width, height = number(abs(last.x - first.x)), number(abs(last.y - first.y))
        return f'rect x="{x}" y="{y}" width="{width}" height="{height}"'
    points = " ".join([f"{number(spot.x)},{number(spot.y)}" for spot in mark.line])
    if len(mark.line) == 1 or all(a == b for a, b in pairwise(mark.line)):
        points = f"{points} {points}"  # a line without length is the dot of its round ends
    return f'polyline points="{points}"'


def _stroke(mark: Mark) -> str:
    color, opacity = mark.ink
    faint = f' stroke-opacity="{number(opacity)}"' if opacity < 1 else ""
    return f' stroke="{color}" stroke-width="{number(mark.size)}"{faint}'


def number(value: float) -> str:
    """At most three decimals: a thousandth of a map unit."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
