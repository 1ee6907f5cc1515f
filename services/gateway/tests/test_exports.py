"""A canvas drawn: geometry and colours of the SVG and of the PNG, whatever the operations say."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from roundtable.common.schema.errors import Refusal
from roundtable.gateway.exports import svg as vector
from roundtable.gateway.exports.png import SIDE, png
from roundtable.gateway.exports.sheet import EMPTY, MARGIN, Mark, Marks, Sheet, sheet_of
from roundtable.gateway.exports.studio import Studio

pytestmark = pytest.mark.rule("OP4")

SVG = "{http://www.w3.org/2000/svg}"
WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)
ORIGIN = 100.0


def operation(
    tool: str, *points: tuple[float, float], color: str = "#ff0000", size: float = 10
) -> dict[str, Any]:
    kinds = {"pen": "draw", "eraser": "erase"}
    return {
        "type": kinds.get(tool, "shape"),
        "tool": tool,
        "points": [{"x": x, "y": y} for x, y in points],
        "color": color,
        "size": size,
        "userId": "ann",
        "id": "one",
    }


def canvas(*operations: dict[str, Any]) -> bytes:
    return json.dumps({"operations": operations, "cursor": "c"}).encode()


def marks(*operations: dict[str, Any]) -> tuple[Mark, ...]:
    return tuple(Marks(canvas(*operations)))


FRAME = (
    operation("pen", (0, 0), color="#fff", size=1),
    operation("pen", (200, 200), color="#fff", size=1),
)
"""Two white dots, which make the sheet reach from 0 to 200."""


def svg(drawn: Iterable[Mark]) -> bytes:
    return "".join(vector.svg(drawn)).encode()


class Picture:
    """A PNG by map coordinates."""

    def __init__(self, *operations: dict[str, Any]) -> None:
        drawn = marks(*FRAME, *operations)
        self.sheet = sheet_of(drawn)
        self.image = Image.open(io.BytesIO(png(drawn)))
        assert self.image.format == "PNG"

    def at(self, x: float, y: float) -> tuple[int, ...]:
        pixel = self.image.getpixel((int(x - self.sheet.left), int(y - self.sheet.top)))
        assert isinstance(pixel, tuple)
        return pixel


def elements(*operations: dict[str, Any]) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg(marks(*operations)))
    assert root.tag == SVG + "svg"
    group = root.find(SVG + "g")
    assert group is not None
    return list(group)


# The picture


def test_a_stroke_is_drawn_where_it_is_as_wide_as_it_is_in_its_colour() -> None:
    picture = Picture(operation("pen", (50, 100), (150, 100), size=20))
    for x in (50, 75, 100, 149):
        for y in (92, 100, 107):
            assert picture.at(x, y) == RED, (x, y)
        assert picture.at(x, 88) == picture.at(x, 112) == WHITE


def test_the_ends_of_a_stroke_are_round() -> None:
    picture = Picture(operation("pen", (50, 100), (150, 100), size=40))
    assert picture.at(33, 100) == picture.at(167, 100) == RED
    assert picture.at(33, 86) == picture.at(167, 114) == WHITE
    assert picture.at(28, 100) == WHITE


def test_the_corner_of_a_stroke_has_no_hole() -> None:
    picture = Picture(operation("pen", (50, 150), (100, 50), (150, 150), size=30))
    assert picture.at(100, 50) == picture.at(100, 40) == RED


def test_a_stroke_of_one_point_is_a_dot() -> None:
    picture = Picture(operation("pen", (100, 100), size=30))
    assert picture.at(100, 100) == picture.at(88, 100) == RED
    assert picture.at(88, 88) == WHITE


def test_a_rectangle_is_its_outline() -> None:
    picture = Picture(operation("rectangle", (150, 150), (50, 70), color="#00f"))
    for corner_or_side in ((50, 70), (150, 150), (50, 150), (100, 70), (150, 100)):
        assert picture.at(*corner_or_side) == BLUE
    assert picture.at(100, 110) == WHITE


def test_a_circle_is_its_outline_around_its_centre() -> None:
    picture = Picture(operation("circle", (100, 100), (100, 140), color="#0000ff"))
    for rim in ((100, 140), (100, 60), (140, 100), (60, 100)):
        assert picture.at(*rim) == BLUE
    assert picture.at(100, 100) == picture.at(120, 100) == picture.at(100, 150) == WHITE


def test_an_eraser_shows_the_paper_again_and_what_is_drawn_later_stays() -> None:
    stroke = operation("pen", (50, 100), (150, 100), size=20)
    eraser = operation("eraser", (100, 50), (100, 150), size=20)
    assert Picture(stroke, eraser).at(100, 100) == WHITE
    assert Picture(stroke, eraser).at(70, 100) == RED
    assert Picture(stroke, eraser, stroke).at(100, 100) == RED


def test_a_faint_stroke_lets_what_is_below_be_seen_and_is_no_darker_where_it_crosses_itself() -> None:
    picture = Picture(
        operation("pen", (50, 100), (150, 100), (100, 50), (100, 150), color="#ff000080", size=20)
    )
    assert picture.at(60, 100) == picture.at(100, 100) == (255, 127, 127)


def test_later_operations_lie_above_earlier_ones() -> None:
    below = operation("pen", (50, 100), (150, 100), size=20)
    above = operation("pen", (100, 50), (100, 150), size=20, color="#00f")
    assert Picture(below, above).at(100, 100) == BLUE


def test_a_picture_of_a_wide_land_is_small_and_still_shows_its_lines() -> None:
    drawn = marks(operation("pen", (-1e6, -1e6), (1e6, 1e6), size=1))
    image = Image.open(io.BytesIO(png(drawn)))
    assert max(image.size) <= SIDE
    middle = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(middle, tuple)
    assert middle[1] < 200


def test_an_empty_canvas_is_a_white_sheet() -> None:
    image = Image.open(io.BytesIO(png(())))
    assert (image.width, image.height) == (int(EMPTY[0]), int(EMPTY[1]))
    assert image.getcolors() == [(image.width * image.height, WHITE)]


# The vector drawing


def test_the_drawing_has_an_element_for_each_operation_in_order() -> None:
    found = elements(
        operation("pen", (1, 2.5), (3, 4)),
        operation("rectangle", (10, 20), (5, 8)),
        operation("circle", (0, 0), (3, 4)),
        operation("eraser", (1, 1), (2, 2)),
    )
    assert [each.tag.removeprefix(SVG) for each in found] == ["polyline", "rect", "circle", "polyline"]
    pen, rectangle, circle, eraser = (each.attrib for each in found)
    assert pen["points"] == "1,2.5 3,4"
    assert (pen["stroke"], pen["stroke-width"]) == ("#ff0000", "10")
    assert [rectangle[name] for name in ("x", "y", "width", "height")] == ["5", "8", "5", "12"]
    assert circle["r"] == "5"
    assert eraser["stroke"] == "#ffffff"


@pytest.mark.parametrize(
    ("color", "stroke", "opacity"),
    [("#abc", "#aabbcc", None), ("#A1B2C3", "#a1b2c3", None), ("#00000033", "#000000", "0.2")],
)
def test_colours_are_told_in_a_form_that_every_reader_knows(
    color: str, stroke: str, opacity: str | None
) -> None:
    (found,) = elements(operation("pen", (0, 0), (1, 1), color=color))
    assert (found.get("stroke"), found.get("stroke-opacity")) == (stroke, opacity)


def test_the_sheet_holds_all_ink_and_no_eraser_makes_it_larger() -> None:
    drawn = marks(
        operation("circle", (100, 100), (130, 140), size=4),
        operation("pen", (0, 60), size=10),
        operation("eraser", (-900, 0), size=10),
    )
    assert sheet_of(drawn) == Sheet(-5 - MARGIN, 48 - MARGIN, 157 + 2 * MARGIN, 104 + 2 * MARGIN)


def test_words_that_somebody_smuggled_into_an_operation_do_not_get_out() -> None:
    evil = '"/><script>alert(1)</script>'
    drawn = svg(marks({**operation("pen", (0, 0)), "color": evil, "userId": evil, "id": evil, "tool": evil}))
    assert b"script" not in drawn
    assert b"alert" not in drawn


COORDINATES = st.floats(-1e6, 1e6, allow_nan=False)
OPERATIONS = st.builds(
    lambda tool, points, color, size: operation(
        tool, *(points[:2] if tool in ("rectangle", "circle") else points), color=color, size=size
    ),
    st.sampled_from(["pen", "eraser", "rectangle", "circle"]),
    st.lists(st.tuples(COORDINATES, COORDINATES), min_size=2, max_size=5),
    st.from_regex(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})", fullmatch=True),
    st.floats(0, 1000, exclude_min=True),
)


@given(st.lists(OPERATIONS, max_size=5))
@settings(max_examples=60)
def test_whatever_is_drawn_gives_a_well_formed_drawing_and_a_picture_of_bounded_size(
    operations: list[dict[str, Any]],
) -> None:
    drawn = marks(*operations)
    text = svg(drawn)
    root = ElementTree.fromstring(text)
    numbers = [float(word) for word in (root.get("viewBox") or "").split()]
    assert len(numbers) == 4
    assert re.search(rb"inf|nan", text) is None
    image = Image.open(io.BytesIO(png(drawn, side=64)))
    assert max(image.size) <= 64


# The studio


async def test_a_picture_is_drawn_by_a_process_of_its_own() -> None:
    studio = Studio(at_once=1, seconds=30)
    async with studio.place():
        drawn = await studio.draw("png", canvas(operation("pen", (0, 0), (50, 50))))
        drawing = await studio.draw("svg", canvas(operation("pen", (0, 0), (50, 50))))
    assert Image.open(io.BytesIO(drawn)).size == (92, 92)
    assert drawing == svg(marks(operation("pen", (0, 0), (50, 50))))


async def test_what_cannot_be_drawn_is_an_internal_fault_and_not_a_picture() -> None:
    with pytest.raises(Refusal) as refused:
        await Studio(at_once=1, seconds=30).draw("png", b"{nonsense")
    assert refused.value.reason == "internal"


async def test_an_export_that_takes_too_long_is_ended() -> None:
    studio = Studio(at_once=1, seconds=0.001)
    with pytest.raises(Refusal) as refused:
        async with studio.place():
            await studio.draw("png", canvas())
    assert refused.value.reason == "overloaded"
    assert refused.value.retry_after


async def test_when_too_many_wait_the_next_is_told_to_come_again() -> None:
    studio = Studio(at_once=1, seconds=30)

    inside, leave = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with studio.place():
            inside.set()
            await leave.wait()

    busy = [asyncio.create_task(work()) for _ in range(5)]
    await inside.wait()
    with pytest.raises(Refusal) as refused:
        async with studio.place():
            pass
    assert refused.value.reason == "overloaded"
    leave.set()
    await asyncio.gather(*busy)
    async with studio.place():
        pass
