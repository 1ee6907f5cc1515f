"""What a test may do with a page in any browser. Knows no table: see `person.py` for that."""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

SIZE: Final = (1200, 760)
"""Width and height of a page, if a test wants no other."""
WITHIN: Final = 20.0
POLL: Final = 0.03

Step = tuple[Any, ...]
"""`("move", x, y)` in page pixels, `("down",)`, `("up",)`, `("press", KEY)`, `("type", TEXT)`."""

KEYS: Final = {
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "Tab": "\ue004",
    "Space": " ",
    "Shift": "\ue008",
    "Control": "\ue009",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
}
"""Names as in `KeyboardEvent.key`, and WebDriver's characters for them."""


class Missing(Exception):
    """The browser, or what drives it, is not on this machine. The text says what to install."""


class Page(ABC):
    """A page in a browser of its own person: nothing is shared with another page but the network."""

    @abstractmethod
    async def goto(self, url: str) -> None:
        """Returns when the document is there."""

    @abstractmethod
    async def evaluate(self, expression: str) -> str:
        """The value of an expression that is a string. Waits for a promise."""

    @abstractmethod
    async def perform(self, steps: Sequence[Step]) -> None:
        """What hands do, one after another."""

    @abstractmethod
    async def close(self) -> None: ...

    async def run(self, expression: str) -> Any:
        """The value of an expression that JSON can carry."""
        return json.loads(
            await self.evaluate(
                f"Promise.resolve({expression}).then((value) => JSON.stringify(value === undefined ? null : value))"
            )
        )

    async def wait(self, expression: str, within: float = WITHIN) -> Any:
        """The first value that counts as true. Raises `AssertionError` with the last one."""
        deadline = time.monotonic() + within
        while True:
            value = await self.run(expression)
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within:g} s: {expression} is {value!r}")
            await asyncio.sleep(POLL)

    async def rect(self, css: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element, when it is there and shown."""
        found = await self.wait(
            f"(() => {{ const box = document.querySelector({json.dumps(css)})?.getBoundingClientRect();"
            " return box && box.width && [box.left, box.top, box.width, box.height]; })()"
        )
        left, top, width, height = found
        return left, top, width, height

    async def click(self, css: str) -> None:
        left, top, width, height = await self.rect(css)
        await self.perform([("move", left + width / 2, top + height / 2), ("down",), ("up",)])

    async def write(self, css: str, text: str) -> None:
        """Into a field, in place of what stands there."""
        await self.rect(css)
        await self.run(
            f"(() => {{ const field = document.querySelector({json.dumps(css)}); field.focus(); field.select(); }})()"
        )
        await self.perform([("type", text)])

    async def press(self, *keys: str) -> None:
        """Each a name of `KEYS` or a character, with others held: `Control+z`."""
        await self.perform([("press", key) for key in keys])

    async def text(self, css: str) -> str:
        return str(await self.run(f"document.querySelector({json.dumps(css)})?.textContent ?? ''"))

    async def texts(self, css: str) -> list[str]:
        found = await self.run(
            f"[...document.querySelectorAll({json.dumps(css)})].map((each) => each.textContent)"
        )
        return list(found)


class Browser(ABC):
    """One browser family on this machine. Raises `Missing` on entry where it is not installed."""

    name: str

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def page(self, **options: Any) -> Page:
        """A page without a past, of the size `SIZE`. Chromium takes Playwright's options of a context."""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def webdriver_actions(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The same as WebDriver's input sources: a mouse and a keyboard that wait for each other."""
    pointer: list[dict[str, Any]] = []
    keys: list[dict[str, Any]] = []

    def tick(mouse: dict[str, Any] | None = None, key: dict[str, Any] | None = None) -> None:
        pointer.append(mouse or {"type": "pause"})
        keys.append(key or {"type": "pause"})

    for kind, *rest in steps:
        match kind:
            case "move":
                x, y = (round(value) for value in rest)
                tick({"type": "pointerMove", "x": x, "y": y, "duration": 0})
            case "down":
                tick({"type": "pointerDown", "button": 0})
            case "up":
                tick({"type": "pointerUp", "button": 0})
            case "press":
                held = [KEYS.get(key, key) for key in rest[0].split("+")]
                for key in held:
                    tick(key={"type": "keyDown", "value": key})
                for key in reversed(held):
                    tick(key={"type": "keyUp", "value": key})
            case "type":
                for character in rest[0]:
                    tick(key={"type": "keyDown", "value": character})
                    tick(key={"type": "keyUp", "value": character})
            case _:
                raise ValueError(kind)
    return [
        {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": pointer},
        {"type": "key", "id": "keyboard", "actions": keys},
    ]
