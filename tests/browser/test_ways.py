"""What can happen on the way: blocked transports, no network at all, a gateway that dies, a token that ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import pytest

from roundtable.common.testing.players import token
from roundtable.common.testing.system import Program, System

from .conftest import People
from .gate import Gate

RED = "#c0392b"
LIFE = 6
"""Seconds that a token lives."""
FALLS_WITHIN = 90.0
"""Five retries of a way that once worked, with pauses up to 16 s, before the next one is tried."""

Gateways = Callable[..., Awaitable[Program]]


@pytest.mark.rule("CO3", "RS2")
async def test_where_websockets_are_blocked_the_table_comes_by_sse(
    room: str, person: People, gate: Gate
) -> None:
    gate.close("websocket")
    ann, ben = await person(gate.http), await person()
    await ann.sits_down("Ann", room)
    await ann.is_connected("sse")
    await ben.sits_down("Ben", room)
    await ann.takes("pen", "Red")
    await ann.draws([(200, 200), (300, 200), (400, 200)])
    for each in (ann, ben):
        await each.sees_ink((300, 200), RED)
    await ben.says("You look slow.")
    await ann.hears("You look slow.")


@pytest.mark.rule("CO3", "RS2")
async def test_where_sse_is_blocked_too_it_comes_by_polling(room: str, person: People, gate: Gate) -> None:
    gate.close("websocket", "sse")
    ann, ben = await person(gate.http), await person()
    await ann.sits_down("Ann", room)
    await ann.is_connected("poll")
    await ben.sits_down("Ben", room)
    await ann.says("Hello from far away.")
    await ben.hears("Hello from far away.")
    await ben.says("Welcome.")
    await ann.hears("Welcome.")


@pytest.mark.browsers("chromium")
@pytest.mark.rule("RS2", "RS6")
async def test_down_all_ways_to_offline_and_back_nothing_is_lost_or_doubled(
    room: str, person: People, gate: Gate
) -> None:
    """Both talk at every stage: what was said while one of them was cut off arrives when they are back."""
    ann, ben = await person(gate.http), await person()
    await ann.sits_down("Ann", room)
    await ann.is_connected("websocket")
    await ben.sits_down("Ben", room)
    said: list[str] = []

    async def both_talk(stage: str) -> None:
        for each, name in ((ann, "Ann"), (ben, "Ben")):
            text = f"{name} by {stage}"
            await each.says(text)
            await ben.hears(text)
            said.append(text)

    await both_talk("websocket")
    gate.close("websocket")
    await ben.says("Ben while the first way breaks")
    said.append("Ben while the first way breaks")
    await ann.is_connected("sse", FALLS_WITHIN)
    await both_talk("sse")
    gate.close("websocket", "sse")
    await ann.is_connected("poll", FALLS_WITHIN)
    await both_talk("poll")
    gate.cut()
    await ann.is_offline(FALLS_WITHIN)
    for text in ("Ann, offline, first", "Ann, offline, second"):
        await ann.says(text)
    await ann.takes("pen", "Red")
    await ann.draws([(200, 200), (300, 200), (400, 200)])
    await ben.says("Ben while Ann is offline")
    await ben.hears("Ben while Ann is offline")
    said.append("Ben while Ann is offline")
    await ann.page.wait("document.querySelector('#offline p').textContent.includes('3 things wait')")
    gate.open()
    await ann.page.click("#wake")
    await ann.is_connected("websocket")
    await ann.page.wait("document.querySelector('#offline').hidden")
    said += ["Ann, offline, first", "Ann, offline, second"]
    for each in (ann, ben):
        await each.hears("Ann, offline, second")
        await each.hears("Ben while Ann is offline")
        await each.sees_ink((300, 200), RED)
        assert sorted(await each.all_heard()) == sorted(said)
    assert await ann.all_heard() == await ben.all_heard()


@pytest.mark.browsers("chromium", "firefox")
@pytest.mark.rule("RS2", "RS6")
async def test_a_gateway_that_is_killed_and_comes_back_loses_nothing(
    room: str, person: People, own_gateway: Gateways
) -> None:
    doomed = await own_gateway()
    ann, ben = await person(doomed.http), await person()
    await ann.sits_down("Ann", room)
    await ben.sits_down("Ben", room)
    await ann.says("Before.")
    await ben.hears("Before.")
    await doomed.kill()
    await ann.page.wait("document.querySelector('#link').dataset.state !== 'open'")
    await ben.says("Meanwhile.")
    await ann.says("Into the void.")
    await ann.takes("pen", "Red")
    await ann.draws([(200, 200), (300, 200), (400, 200)])
    doomed.start()
    await doomed.ready()
    await ann.is_connected(within=FALLS_WITHIN)
    for each in (ann, ben):
        await each.hears("Into the void.")
        await each.hears("Meanwhile.")
        await each.sees_ink((300, 200), RED)
        assert sorted(await each.all_heard()) == ["Before.", "Into the void.", "Meanwhile."]


@pytest.mark.browsers("chromium")
async def test_the_page_moves_to_another_gateway_behind_the_same_address(
    room: str, person: People, gate: Gate, own_gateway: Gateways
) -> None:
    doomed, other = await own_gateway(), gate.server_port
    gate.server_port = doomed.port
    ann = await person(gate.http)
    await ann.sits_down("Ann", room)
    await ann.says("Before.")
    await ann.hears("Before.")
    await doomed.kill()
    gate.server_port = other
    await ann.is_connected(within=FALLS_WITHIN)
    await ann.says("After.")
    await ann.hears("After.")
    assert await ann.all_heard() == ["Before.", "After."]


@pytest.mark.browsers("chromium", "firefox")
@pytest.mark.rule("AU3", "AU4")
async def test_a_token_is_renewed_in_the_connection_before_it_ends(
    table: System, room: str, person: People, gate: Gate
) -> None:
    """A life of six seconds: after three of them one is still connected, by the same connection."""
    wanted = {"username": "Ann", "room": room, "role": "player", "ttl": LIFE}
    async with httpx.AsyncClient(base_url=table.gateway.http) as http:
        tokens = (await http.post("/auth/token", json=wanted)).json()
    ann = await person(gate.http)
    fragment = f"token={tokens['token']}&refresh={tokens['refreshToken']}"
    await ann.page.goto(f"{ann.address}/?room={room}#{fragment}")
    await ann.is_connected()
    ends = time.monotonic() + 3 * LIFE
    while time.monotonic() < ends:
        assert await ann.page.run("document.querySelector('#link').dataset.state") == "open"
        await asyncio.sleep(0.2)
    assert gate.requests.count("websocket") == 1
    await ann.says("Still here.")
    await ann.hears("Still here.")


@pytest.mark.browsers("chromium")
@pytest.mark.rule("AU1", "AU2")
async def test_a_link_with_a_token_sits_down_at_once_and_the_token_leaves_the_address(
    room: str, person: People
) -> None:
    ann = await person()
    await ann.page.goto(
        f"{ann.address}/?room={room}#token={token('ann', room, 'gm', name='Ann of the link')}"
    )
    await ann.is_connected()
    await ann.sees("Ann of the link", "you, game master")
    assert await ann.page.run("location.hash") == ""


@pytest.mark.browsers("chromium")
@pytest.mark.rule("AU1")
@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("nonsense", "token is not good"),
        (token("ann", ttl=-60), "time is over"),
        (token("ann", "other"), "no seat"),
    ],
    ids=["nonsense", "expired", "another room"],
)
async def test_a_token_that_is_no_good_leads_back_to_the_door_with_a_word(
    room: str, person: People, given: str, word: str
) -> None:
    ann = await person()
    await ann.page.goto(f"{ann.address}/?room={room}#token={given}")
    await ann.is_at_the_door(word)
