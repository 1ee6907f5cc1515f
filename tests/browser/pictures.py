"""`make pictures`: a game master and a player at a dungeon's map, for the README: light, dark, and on a telephone."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import secrets
from pathlib import Path
from typing import Any, Final

import httpx

from roundtable.common.testing.players import token
from roundtable.common.testing.system import system

from .drivers.chromium import Chromium, ChromiumPage
from .person import Person

TARGET: Final = Path(__file__).parents[2] / "docs/pictures"
ROOM: Final = "sunken-keep"
INK, RED, GOLD, GREEN, BLUE, VIOLET, BROWN, GREY = (
    "#1d2a44", "#c0392b", "#dba911", "#2e8b57", "#2a6fdb", "#7d3cb5", "#7a4a21", "#8a8f98",
)  # fmt: skip

Place = tuple[float, float]


class Map:
    """Operations as a hand would draw them: nothing is quite straight. The same each time."""

    def __init__(self) -> None:
        self.operations: list[dict[str, Any]] = []
        self._chance = random.Random(7)

    def line(self, points: list[Place], color: str = INK, size: float = 6) -> None:
        shaky: list[Place] = []
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            steps = max(1, round(math.hypot(x1 - x0, y1 - y0) / 40))
            shaky += [(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(steps)]
        shaky.append(points[-1])
        self._add("draw", "pen", [self._shaken(each) for each in shaky], color, size)

    def walls(self, points: list[Place]) -> None:
        self.line(points)
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            length = math.hypot(x1 - x0, y1 - y0)
            outside = (-(y1 - y0) / length, (x1 - x0) / length)
            for i in range(int(length / 16)):
                x, y = x0 + (x1 - x0) * i * 16 / length, y0 + (y1 - y0) * i * 16 / length
                far = self._chance.uniform(14, 24)
                start = (x + outside[0] * 6, y + outside[1] * 6)
                end = (x + outside[0] * far + 8 * outside[1], y + outside[1] * far - 8 * outside[0])
                self._add("draw", "pen", [start, end], GREY, 2)

    def disc(self, at: Place, color: str, size: float = 38) -> None:
        self._add("draw", "pen", [at], color, size)

    def ring(self, at: Place, radius: float, color: str = INK, size: float = 6) -> None:
        self._add("shape", "circle", [at, (at[0] + radius, at[1])], color, size)

    def box(self, a: Place, b: Place, color: str = BROWN, size: float = 5) -> None:
        self._add("shape", "rectangle", [a, b], color, size)

    def wave(self, at: Place, length: float) -> None:
        points = [(at[0] + i, at[1] + 7 * math.sin(i / 14)) for i in range(0, round(length), 7)]
        self._add("draw", "pen", points, BLUE, 4)

    def _shaken(self, at: Place) -> Place:
        return at[0] + self._chance.uniform(-2, 2), at[1] + self._chance.uniform(-2, 2)

    def _add(self, kind: str, tool: str, points: list[Place], color: str, size: float) -> None:
        places = [{"x": round(x, 1), "y": round(y, 1)} for x, y in points]
        self.operations.append({"type": kind, "tool": tool, "points": places, "color": color, "size": size})


def dungeon() -> list[dict[str, Any]]:
    drawn = Map()
    drawn.walls([(300, 250), (100, 250), (100, 550), (450, 550), (450, 450)])  # the hall, open to the east
    drawn.walls([(450, 350), (450, 250), (300, 250)])
    drawn.line([(450, 350), (650, 350)])  # a passage
    drawn.line([(450, 450), (650, 450)])
    drawn.walls([(650, 450), (650, 650), (1000, 650), (1000, 500)])  # the flooded chamber
    drawn.walls([(1000, 400), (1000, 150), (650, 150), (650, 350)])
    drawn.line([(1000, 400), (1120, 400)])
    drawn.line([(1000, 500), (1120, 500)])
    drawn.ring((1270, 450), 158)  # the round tower
    drawn.ring((1270, 450), 60, GREY, 4)
    for number in range(8):
        angle = number * math.tau / 8 + 0.4
        drawn.disc((1270 + 115 * math.cos(angle), 450 + 115 * math.sin(angle)), GREY, 18)
    for x in (170, 380):  # pillars
        for y in (320, 400, 480):
            drawn.disc((x, y), GREY, 22)
    for number in range(6):  # stairs down
        drawn.line([(200 + number * 20, 560), (200 + number * 20, 620)], INK, 4)
    for number in range(11):
        drawn.wave((680 + 12 * (number % 3), 470 + 16 * number), 280 - 14 * (number % 4))
    drawn.box((640, 355), (660, 445))
    drawn.box((990, 405), (1010, 495))
    drawn.box((1235, 425), (1305, 470), GOLD, 6)  # the chest
    drawn.line([(1235, 440), (1305, 440)], GOLD, 5)
    drawn.line([(735, 205), (785, 255)], RED, 7)  # a trap
    drawn.line([(785, 205), (735, 255)], RED, 7)
    for at, color in (((540, 395), GREEN), ((585, 425), VIOLET), ((900, 250), RED), ((930, 320), RED)):
        drawn.disc(at, color)
    return drawn.operations


async def draw(http: httpx.AsyncClient, user: str, operations: list[dict[str, Any]]) -> None:
    for start in range(0, len(operations), 100):
        params = {"operations": operations[start : start + 100]}
        body = {"type": "request", "id": secrets.token_hex(8), "method": "canvas.draw", "params": params}
        headers = {"Authorization": f"Bearer {token(user, ROOM, 'gm', name='Mira')}"}
        answer = await http.post("/rpc", params={"room": ROOM}, json=body, headers=headers)
        answer.raise_for_status()
        assert answer.json()["type"] == "response", answer.text


async def play(gm: Person, tom: Person, ilse: Person) -> None:
    await gm.page.click("#name-map")
    await gm.page.write("#modal input", "The Sunken Keep, lower level")
    await gm.page.click("#modal .main")
    await gm.page.click("#turn-acts .chip")
    await gm.page.wait("document.querySelectorAll('#order li').length === 3")
    await gm.page.click("[aria-label='Add to the order']")
    await gm.page.write("#who", "Drowned knight")
    await gm.page.press("Enter")
    await gm.page.wait("document.querySelectorAll('#order li').length === 4")
    await gm.page.click("[aria-label='Add to the order']")
    await tom.says("I wade in, shield up.")
    await gm.hears("I wade in, shield up.")
    await ilse.says("Light spell on his shield!")
    await gm.hears("Light spell on his shield!")
    await tom.page.perform([("move", 5, 5)])
    await tom.rolls("2d20kh1 + 5 # Attack")
    await gm.sees_roll("Attack")
    await tom.rolls("1d8 + 3 # Longsword")
    await gm.sees_roll("Longsword")
    await gm.page.click("#turn-acts .strong")
    await gm.page.wait("document.querySelector('#order [aria-current]').textContent.includes('Ilse')")


async def main() -> None:
    TARGET.mkdir(exist_ok=True)
    settings = {"ENVIRONMENT": "development", "DEV_AUTH": "1"}
    async with system(settings=settings) as running, Chromium() as browser:
        address = running.gateway.http
        async with httpx.AsyncClient(base_url=address) as http:
            await draw(http, "map-maker", dungeon())
        size = {"width": 1280, "height": 800}

        async def person(name: str, role: str, **options: Any) -> tuple[Person, ChromiumPage]:
            page = await browser.page(**{"viewport": size, "device_scale_factor": 0.8} | options)
            came = Person(page, address)
            await came.sits_down(name, ROOM, role)
            return came, page

        ilse, phone = await person(
            "Ilse",
            "player",
            viewport={"width": 390, "height": 780},
            is_mobile=True,
            has_touch=True,
            device_scale_factor=1.5,
        )
        gm, light = await person("Mira", "gm")
        tom, dark = await person("Tom the Bold", "player", color_scheme="dark")
        await ilse.page.click("[data-tab=talk]")
        await play(gm, tom, ilse)
        # both have a line in hand, and each sees the other's
        left, top, _, _ = await gm.page.rect("#board")
        await tom.takes("pen", "Green")
        await gm.takes("pen", "Red")
        for each, line in (
            (tom, [(345 + 6 * i, 245 - 20 * math.sin(i / 9)) for i in range(28)]),
            (gm, [(520 - 3 * i, 195 + 3 * i) for i in range(14)]),
        ):
            steps = [("move", left + x, top + y) for x, y in line]
            await each.page.perform([steps[0], ("down",), *steps[1:]])
        for each in (gm, tom):
            await each.sees("Mira", "is drawing")
            await each.sees("Tom the Bold", "is drawing")
        await ilse.page.wait("document.querySelectorAll('#feed .dice_roll').length === 2")
        for name, page in (("table-light", light), ("table-dark", dark), ("table-phone", phone)):
            await page.handle.wait_for_function(
                "document.getAnimations().every((each) => each.playState === 'finished')"
            )
            await page.handle.screenshot(path=TARGET / f"{name}.png")
    print(json.dumps({path.name: path.stat().st_size for path in sorted(TARGET.glob("*.png"))}))


if __name__ == "__main__":
    asyncio.run(main())
