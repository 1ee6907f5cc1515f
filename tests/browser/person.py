"""Somebody at the table page: sits down, draws, talks, rolls, and sees. Knows the page's elements, and no browser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import urlencode

from .drivers import Page

Point = tuple[float, float]

TOOLS = ("pen", "eraser", "rectangle", "circle", "hand")
NEAR = 40
"""How far apart a colour's parts may be from what was drawn: browsers smooth edges, each in its way."""


class Person:
    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address

    # -- coming and going

    async def opens(self, room: str, **more: str) -> None:
        await self.page.goto(f"{self.address}/?{urlencode({'room': room} | more)}")

    async def sits_down(self, name: str, room: str, role: str = "player") -> None:
        await self.opens(room)
        await self.page.write("#join [name=name]", name)
        await self.page.click(f"#join label:has([value={role}]) span")
        await self.page.click("#join button.main")
        await self.is_connected()

    async def is_connected(self, by: str = "", within: float = 20) -> None:
        """By a certain transport, if one is named."""
        asked = f" && link.dataset.transport === {json.dumps(by)}" if by else ""
        await self.page.wait(
            "(() => { const link = document.querySelector('#link');"
            f" return !document.querySelector('#table').hidden && link.dataset.state === 'open'{asked}; }})()",
            within,
        )

    async def is_offline(self, within: float = 60) -> None:
        await self.page.wait("!document.querySelector('#offline').hidden", within)

    async def is_at_the_door(self, reason: str) -> None:
        await self.page.wait(
            f"!document.querySelector('#door').hidden"
            f" && document.querySelector('#refusal').textContent.includes({json.dumps(reason)})"
        )

    # -- the map

    async def takes(self, tool: str, color: str = "") -> None:
        await self.page.click(f"#kinds label:has([value={tool}]) span")
        if color:
            await self.page.click(f"#colors label:has([aria-label={color}]) span")

    async def draws(self, points: Sequence[Point]) -> None:
        """In pixels from the map's top left corner."""
        left, top, _, _ = await self.page.rect("#board")
        (x, y), *rest = points
        await self.page.perform(
            [
                ("move", left + x, top + y),
                ("down",),
                *(("move", left + x, top + y) for x, y in rest),
                ("up",),
            ]
        )

    async def sees_ink(self, at: Point | None, color: str, within: float = 20) -> None:
        """Within a few pixels of that place, or anywhere, on the stored ink, not on the live one."""
        await self.page.wait(self._inked(at, color), within)

    async def sees_no_ink(self, at: Point | None, color: str, within: float = 20) -> None:
        await self.page.wait(f"!({self._inked(at, color)})", within)

    @staticmethod
    def _inked(at: Point | None, color: str) -> str:
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        x, y = at or (0, 0)
        area = f"{x - 3} * ratio, {y - 3} * ratio, 7, 7" if at else "0, 0, canvas.width, canvas.height"
        return (
            "(() => { const canvas = document.querySelector('#ink'); const ratio = canvas.width / canvas.clientWidth;"
            f" const data = canvas.getContext('2d').getImageData({area}).data;"
            " for (let i = 0; i < data.length; i += 4)"
            f" if (Math.abs(data[i] - {red}) + Math.abs(data[i + 1] - {green}) + Math.abs(data[i + 2] - {blue})"
            f" <= {NEAR}) return true; return false; }})()"
        )

    # -- talk and dice

    async def says(self, text: str) -> None:
        await self.page.write("#text", text)
        await self.page.press("Enter")

    async def rolls(self, expression: str) -> None:
        await self.page.write("#expression", expression)
        await self.page.press("Enter")

    async def hears(self, text: str, within: float = 20) -> None:
        await self.page.wait(
            f"[...document.querySelectorAll('#feed .text')].some((each) => each.textContent === {json.dumps(text)})",
            within,
        )

    async def all_heard(self) -> list[str]:
        return await self.page.texts("#feed .chat_message .text")

    async def sees_roll(self, label: str) -> str:
        """The total of the roll with this label."""
        total = await self.page.wait(
            "(() => { for (const roll of document.querySelectorAll('#feed .dice_roll .roll'))"
            f" if (roll.querySelector('.what b')?.textContent === {json.dumps(label)})"
            " return roll.querySelector('strong, .unseen').textContent; })()"
        )
        return str(total)

    async def people(self) -> dict[str, str]:
        """Who is here, and what is said about each."""
        found = await self.page.run(
            "Object.fromEntries([...document.querySelectorAll('#people li')].map((row) =>"
            " [row.querySelector('.name').textContent, row.querySelector('.note').textContent]))"
        )
        return dict(found)

    async def sees(self, name: str, doing: str = "") -> None:
        """At the table, doing that."""
        await self.page.wait(
            "[...document.querySelectorAll('#people li')].some((row) =>"
            f" row.querySelector('.name').textContent === {json.dumps(name)}"
            f" && row.querySelector('.note').textContent.includes({json.dumps(doing)}))"
        )
