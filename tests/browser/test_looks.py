"""How the page looks and feels: for screen readers, by the keyboard alone, on a telephone, in the dark."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import People
from .drivers.chromium import ChromiumPage
from .person import Person

pytestmark = pytest.mark.browsers("chromium")

INK = "#1d2a44"
RED = "#c0392b"
AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 720},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 3,
}
TABS = ("map", "talk", "dice", "people")


def chromium(person: Person) -> ChromiumPage:
    assert isinstance(person.page, ChromiumPage)
    return person.page


async def judged(person: Person) -> list[str]:
    """What axe finds that is serious or worse: the rule, and the first elements that break it."""
    page = chromium(person).handle
    await page.wait_for_function(
        "document.getAnimations().every((animation) => animation.playState === 'finished')"
    )
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run().then(({ violations }) => JSON.stringify(violations))")
    return [
        f"{rule['id']}: {[node['html'][:160] for node in rule['nodes'][:3]]}"
        for rule in json.loads(found)
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.fixture
async def watched(person: People) -> AsyncIterator[People]:
    """As `person`; afterwards no page has had an error, nor done what its policy forbids."""
    came: list[Person] = []

    async def arrive(*given: Any, **options: Any) -> Person:
        came.append(await person(*given, **options))
        return came[-1]

    yield arrive
    assert [error for each in came for error in chromium(each).errors] == []


async def busy_table(room: str, people: People, **options: Any) -> Person:
    """Ann, gm, at a table at which a lot has happened."""
    ann = await people(**options)
    ben = await people()
    await ann.sits_down("Ann Oakley", room, "gm")
    await ben.sits_down("Ben", room)
    await ben.draws([(200, 200), (300, 240), (400, 200)])
    await ben.says("I listen at the door.")
    await ben.rolls("2d20kh1 + 3 # perception")
    await ben.says("/w Ann Oakley And if it opens?")
    await ben.page.click("#turn-acts .chip")
    await ben.page.wait("document.querySelectorAll('#order li').length === 2")
    await ben.page.click("#new-note")
    await ben.page.write("#modal input", "The door")
    await ben.page.write("#modal textarea", "Oak, with iron bands.")
    await ben.page.click("#modal .main")
    await ann.page.wait("document.querySelectorAll('#feed .note-card').length")
    await ann.page.wait("document.querySelectorAll('#order li').length === 2")
    return ann


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(room: str, watched: People, scheme: str) -> None:
    stranger = await watched(color_scheme=scheme)
    await stranger.opens(room)
    await stranger.page.click("#with-token summary")
    assert await judged(stranger) == []
    ann = await busy_table(room, watched, color_scheme=scheme)
    assert await judged(ann) == []
    await ann.page.click("#help")
    await ann.page.rect("#modal [role=dialog]")
    assert await judged(ann) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious_on_a_telephone(room: str, watched: People, scheme: str) -> None:
    ann = await busy_table(room, watched, color_scheme=scheme, **PHONE)
    for tab in TABS:
        await ann.page.click(f"[data-tab={tab}]")
        assert (tab, await judged(ann)) == (tab, [])


async def test_360_pixels_are_wide_enough(room: str, watched: People) -> None:
    """Nothing sticks out, and what can be touched is large enough for a finger."""
    stranger = await watched(**PHONE)
    await stranger.opens(room)
    assert await stranger.page.run("document.scrollingElement.scrollWidth") == 360
    ann = await busy_table(room, watched, **PHONE)
    for tab in TABS:
        await ann.page.click(f"[data-tab={tab}]")
        assert (tab, await ann.page.run("document.scrollingElement.scrollWidth")) == (tab, 360)
        odd = await ann.page.run(
            "[...document.querySelectorAll('button, select, textarea, input:not([type=radio])')]"
            ".filter((each) => each.checkVisibility({ visibilityProperty: true }))"
            ".map((each) => ({ id: each.id || each.getAttribute('aria-label'), box: each.getBoundingClientRect() }))"
            ".filter(({ box }) => box.left < 0 || box.right > 360 || box.width < 24 || box.height < 16)"
            ".map(({ id, box }) => [id, Math.round(box.left), Math.round(box.right), Math.round(box.height)])"
        )
        assert (tab, odd) == (tab, [])


async def test_a_finger_draws_and_two_fingers_move_the_map(room: str, watched: People) -> None:
    ann, ben = await watched(**PHONE), await watched()
    await ann.sits_down("Ann", room)
    await ben.sits_down("Ben", room)
    await ann.page.press(*["]"] * 5)
    left, top, _, _ = await ann.page.rect("#board")
    devtools = await chromium(ann).context.new_cdp_session(chromium(ann).handle)

    async def fingers(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": left + x, "y": top + y, "id": number} for number, (x, y) in enumerate(points)]
        await devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    await fingers("touchStart", (120, 200))
    for x in range(130, 260, 10):
        await fingers("touchMove", (x, 200))
    await fingers("touchEnd")
    await ann.sees_ink((200, 200), INK)
    before = int((await ann.page.text("#zoom")).split()[0])
    await fingers("touchStart", (150, 250), (210, 250))
    for step in range(1, 7):
        await fingers("touchMove", (150 - 10 * step, 250), (210 + 10 * step, 250))
    await fingers("touchEnd")
    await ann.page.wait(f"parseInt(document.querySelector('#zoom').textContent) > {1.8 * before}")
    # two fingers left no stroke
    await ann.page.press("Control+z")
    await ann.page.wait("document.querySelectorAll('#toasts p').length === 0")
    await ann.sees_no_ink((200, 200), INK)
    await ann.page.press("Control+z")
    await ann.page.wait("document.querySelector('#toasts').textContent.includes('nothing to undo')")


async def test_everything_can_be_done_by_the_keyboard(room: str, watched: People) -> None:
    ann, ben = await watched(), await watched()
    await ben.sits_down("Ben", room)
    await ann.opens(room)
    await ann.page.wait("document.activeElement.name === 'name'")
    await ann.page.perform([("type", "Ann")])
    await ann.page.press("Tab", "Tab", "Tab", "ArrowRight")  # over room and its button to the roles: the gm
    await ann.page.press("Enter")
    await ann.is_connected()
    await ann.sees("Ann", "game master")
    await ann.page.press("2", "b")
    await ann.page.wait("document.activeElement.id === 'board'")
    await ann.page.press("ArrowRight", "Enter", *["ArrowRight"] * 6, "Enter")
    await ben.page.wait("document.querySelector('#blank').hidden")
    await ann.page.press("Control+z")
    await ann.page.press("t")
    await ann.page.perform([("type", "By keys alone.")])
    await ann.page.press("Enter", "Escape")
    await ben.hears("By keys alone.")
    await ann.page.press("d")
    await ann.page.perform([("type", "2d1 # keys")])
    await ann.page.press("Enter", "Escape")
    assert await ben.sees_roll("keys") == "2"
    await ann.page.press("?")
    await ann.page.rect("#modal [role=dialog]")
    for _ in range(4):  # the focus stays in the dialog
        await ann.page.press("Tab")
        assert await ann.page.run("!!document.activeElement.closest('#modal')")
    await ann.page.press("Escape")
    await ann.page.wait("document.querySelector('#modal').hidden")


async def test_all_is_reached_by_tab_and_nothing_traps(room: str, watched: People) -> None:
    ann = await busy_table(room, watched)
    await ann.page.run("document.activeElement.blur()")
    passed: set[str] = set()
    for _ in range(90):
        await ann.page.press("Tab")
        passed.add(await ann.page.run("document.activeElement.id || document.activeElement.name || ''"))
    assert passed >= {
        "invite", "theme", "help", "leave", "board", "tool", "color", "size", "undo", "text", "to", "expression",
        "visibility", "scroll",
    }  # fmt: skip


async def test_only_a_gm_clears_everything_and_is_asked_twice(room: str, watched: People) -> None:
    gm, ben = await watched(), await watched()
    await gm.sits_down("Gil", room, "gm")
    await ben.sits_down("Ben", room)
    await ben.draws([(200, 200), (300, 200), (400, 200)])
    await gm.sees_ink((300, 200), INK)
    await ben.page.click("#clear")
    assert "everything" not in (await ben.page.text("#modal")).lower()
    await ben.page.press("Escape")
    await gm.page.click("#clear")
    await gm.page.click("#modal .danger")
    await gm.page.wait("document.querySelector('#modal h2').textContent === 'Clear everything?'")
    await gm.page.click("#modal .main")
    for each in (gm, ben):
        await each.sees_no_ink((300, 200), INK)
    await gm.page.press("Control+z")
    await ben.sees_ink((300, 200), INK)


async def test_who_looks_on_sees_and_cannot_act(room: str, watched: People) -> None:
    ann, eve = await watched(), await watched()
    await ann.sits_down("Ann", room)
    await eve.sits_down("Eve", room, "spectator")
    await ann.draws([(200, 200), (300, 200), (400, 200)])
    await eve.sees_ink((300, 200), INK)
    able = await eve.page.run(
        "[...document.querySelectorAll('#tools input, #tools button, #chat textarea, #dice button')]"
        ".filter((each) => !each.disabled).map((each) => each.value)"
    )
    assert able == ["hand"]
    await eve.page.press("p")
    await eve.draws([(200, 300), (300, 300), (400, 300)])  # this moves the map
    await eve.sees_ink((500, 200), INK)
    await ann.page.wait("!document.querySelector('#order li')")


@pytest.mark.parametrize("density", [1, 2])
async def test_the_map_is_as_fine_as_the_screen(room: str, watched: People, density: int) -> None:
    ann = await watched(device_scale_factor=density)
    await ann.sits_down("Ann", room)
    for canvas in ("#ink", "#board"):
        width, shown = await ann.page.run(
            f"[document.querySelector('{canvas}').width, document.querySelector('{canvas}').clientWidth]"
        )
        assert width == density * shown


async def test_the_theme_follows_the_system_until_it_is_chosen(room: str, watched: People) -> None:
    ann = await watched(color_scheme="dark")
    await ann.sits_down("Ann", room)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = await ann.page.run(ground)
    await ann.page.click("#theme")
    await ann.page.wait(f"{ground} !== {json.dumps(dark)}")
    await ann.opens(room)
    await ann.is_connected()
    assert await ann.page.run(ground) != dark
    assert await ann.page.run("document.querySelector('#theme').getAttribute('aria-label')") == "Theme: light"


async def test_live_ink_and_pointers_are_seen_before_a_stroke_is_done(room: str, watched: People) -> None:
    """Nothing of it is on the stored ink; both are gone when they are over."""
    ann, ben = await watched(), await watched()
    await ann.sits_down("Ann", room)
    await ben.sits_down("Ben", room)
    await ann.takes("pen", "Red")
    left, top, _, _ = await ann.page.rect("#board")
    await ann.page.perform([("move", left + 200, top + 200), ("down",), ("move", left + 300, top + 200)])
    live = (
        "(() => { const canvas = document.querySelector('#board');"
        " const data = canvas.getContext('2d').getImageData(240, 195, 20, 10).data;"
        " return data.some((value, i) => i % 4 === 3 && value > 200); })()"
    )
    await ben.page.wait(live)
    await ben.sees_no_ink((250, 200), RED)
    await ben.sees("Ann", "is drawing")
    await ann.page.perform([("up",)])
    await ben.sees_ink((250, 200), RED)
    await ben.page.wait(f"!{live}")


async def test_a_burst_of_strokes_stays_below_the_limit_and_none_is_lost(room: str, watched: People) -> None:
    """150 strokes at once, where 100 messages a minute are allowed: they are joined, not refused."""
    ann, ben = await watched(), await watched()
    await ann.sits_down("Ann", room)
    await ben.sits_down("Ben", room)
    await ann.takes("pen", "Red")
    for number in range(150):
        x, y = 100 + number % 30 * 20, 100 + number // 30 * 40
        await ann.draws([(x, y), (x + 10, y + 20)])
    for number in (0, 74, 149):
        x, y = 100 + number % 30 * 20, 100 + number // 30 * 40
        await ben.sees_ink((x + 5, y + 10), RED, 30)
    assert "too fast" not in await ann.page.text("#toasts")
