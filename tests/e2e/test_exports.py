"""A room given away as files, to those who may see it (OP4)."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from roundtable.common.testing.forms import Players, http
from roundtable.common.testing.players import WAIT, token
from roundtable.common.testing.system import Program, System, system
from roundtable.common.testing.wire import Wire

from .conftest import Gateway

pytestmark = pytest.mark.rule("OP4")

FILES = {
    "canvas.json": "application/json",
    "canvas.svg": "image/svg+xml",
    "canvas.png": "image/png",
    "activity.jsonl": "application/jsonl",
}
RED_LINE = {
    "type": "draw",
    "tool": "pen",
    "color": "#ff0000",
    "size": 20,
    "points": [{"x": 0, "y": 0}, {"x": 100, "y": 0}],
}


async def export(
    program: Program, room: str, file: str, who: str = "ann", role: str = "player", **headers: str
) -> httpx.Response:
    if who:
        headers["Authorization"] = f"Bearer {token(who, room, role)}"
    async with http(program) as client:
        return await client.get(f"/rooms/{room}/{file}", headers=headers)


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["reason"]


def feed(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_what_is_visible_comes_as_json_with_its_cursor(
    table: System, room: str, everyone: Players
) -> None:
    ann = await everyone("ann")
    await ann.draw("kept")
    await ann.draw("undone")
    await ann.request("canvas.undo")
    answer = await export(table.gateway, room, "canvas.json")
    state = answer.json()
    assert state == await ann.request("canvas.state")
    assert [operation["id"] for operation in state["operations"]] == ["kept"]
    assert state["cursor"]


async def test_the_canvas_comes_as_a_drawing_and_as_a_picture(
    table: System, room: str, everyone: Players
) -> None:
    ann = await everyone("ann")
    await ann.request("canvas.draw", {"operations": [RED_LINE]})
    drawing = await export(table.gateway, room, "canvas.svg")
    assert 'points="0,0 100,0" stroke="#ff0000" stroke-width="20"' in drawing.text
    picture = Image.open(io.BytesIO((await export(table.gateway, room, "canvas.png")).content))
    assert picture.size == (100 + 20 + 32, 20 + 32)
    assert picture.getpixel((76, 26)) == (255, 0, 0)
    assert picture.getpixel((76, 5)) == (255, 255, 255)


@pytest.mark.parametrize("file", FILES)
async def test_a_file_says_what_it_is_and_is_kept_by_nobody(table: System, room: str, file: str) -> None:
    answer = await export(table.gateway, room, file)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == FILES[file]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"] == f'inline; filename="{room}-{file}"'


async def test_the_feed_comes_whole_and_in_order_however_long_it_is(
    table: System, room: str, everyone: Players
) -> None:
    ann = await everyone("ann")
    idents: list[str] = []
    for start in range(0, 450, 90):
        batch = [
            {
                "type": "request",
                "id": f"say-{number}",
                "method": "activity.post",
                "params": {"type": "chat_message", "data": {"text": f"line {number}"}},
            }
            for number in range(start, start + 90)
        ]
        idents.extend(f"say-{number}" for number in range(start, start + 90))
        await ann.transmit(batch)
        await ann.wait_for(lambda: len(ann.told("activity.post")) >= len(idents))
    lines = feed(await export(table.gateway, room, "activity.jsonl"))
    said = [line["data"]["text"] for line in lines if line["type"] == "chat_message"]
    assert said == [f"line {number}" for number in range(450)]
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)


@pytest.mark.rule("AC3", "AC5")
async def test_a_feed_holds_only_what_its_asker_may_see(table: System, room: str, everyone: Players) -> None:
    ann, _gm = await everyone("ann"), await everyone("gm", "gm")
    say = {"type": "chat_message", "data": {"text": "open"}}
    await ann.request("activity.post", say)
    await ann.request("activity.post", {**say, "data": {"text": "whispered"}, "to": ["bob"]})
    await ann.request(
        "activity.post", {"type": "dice_roll", "data": {"expression": "d20"}, "visibility": "blind"}
    )

    async def seen(who: str, role: str) -> list[str]:
        lines = feed(await export(table.gateway, room, "activity.jsonl", who, role))
        return [line["data"].get("text", "") for line in lines if line["type"] == "chat_message"] + [
            "roll" for line in lines if line["type"] == "dice_roll"
        ]

    assert await seen("ann", "player") == ["open", "whispered"]
    assert await seen("bob", "player") == ["open", "whispered"]
    assert await seen("eve", "player") == ["open"]
    assert await seen("watcher", "spectator") == ["open"]
    assert await seen("gm", "gm") == ["open", "roll"]


async def test_a_feed_that_cannot_go_on_is_not_taken_for_whole(room: str) -> None:
    async with system() as own:
        players = Players(own, room, "websocket-json")
        ann = await players("ann")
        for number in range(250):  # more than a page, and more than the network keeps
            await ann.request(
                "activity.post", {"type": "chat_message", "data": {"text": f"{number} ".ljust(4_000, ".")}}
            )
        async with Wire(own.gateway, narrow=True) as wire:
            status, headers = await wire.ask(
                f"/rooms/{room}/activity.jsonl", Authorization=f"Bearer {token('ann', room)}"
            )
            assert (status, headers["transfer-encoding"]) == (200, "chunked")
            await own.of("activity")[0].kill()
            told = await wire.rest(6 * WAIT)
        assert told.count(b'"id"') >= 50
        assert not told.endswith(b"0\r\n\r\n")
        await players.leave()


@pytest.mark.parametrize("file", FILES)
async def test_without_a_token_for_the_room_nothing_is_given_away(
    table: System, room: str, file: str
) -> None:
    assert reason(await export(table.gateway, room, file, "")) == (401, "auth_required")
    async with http(table.gateway) as client:
        elsewhere = {"Authorization": f"Bearer {token('ann', 'elsewhere')}"}
        assert reason(await client.get(f"/rooms/{room}/{file}", headers=elsewhere)) == (403, "forbidden")
        nonsense = {"Authorization": "Bearer nonsense"}
        assert reason(await client.get(f"/rooms/{room}/{file}", headers=nonsense)) == (401, "token_invalid")
        in_query = await client.get(f"/rooms/{room}/{file}?token={token('ann', room)}")
        assert reason(in_query) == (401, "token_invalid")


@pytest.mark.rule("AU2")
async def test_a_ticket_opens_one_file_once(table: System, room: str) -> None:
    async with http(table.gateway) as client:
        got = await client.post("/auth/ticket", headers={"Authorization": f"Bearer {token('ann', room)}"})
        address = f"/rooms/{room}/canvas.json?ticket={got.json()['ticket']}"
        assert (await client.get(address)).status_code == 200
        assert (await client.get(address)).status_code == 401


@pytest.mark.rule("AU6")
async def test_a_page_of_another_host_gets_no_file(table: System, room: str) -> None:
    answer = await export(table.gateway, room, "canvas.json", Origin="https://evil.example")
    assert reason(answer) == (403, "origin_refused")


@pytest.mark.rule("CO1")
async def test_a_room_that_cannot_be_has_no_files(table: System) -> None:
    async with http(table.gateway) as client:
        anywhere = {"Authorization": f"Bearer {token('ann')}"}
        answer = await client.get("/rooms/no.room/canvas.png", headers=anywhere)
        assert reason(answer) == (400, "invalid_room")
        assert (await client.get("/rooms/inn/canvas.gif")).status_code == 404
        assert (await client.post("/rooms/inn/canvas.png")).status_code in (404, 405)


@pytest.mark.rule("AU5")
async def test_in_development_a_guest_may_take_files_too(table: System, room: str, gateway: Gateway) -> None:
    program = await gateway(DEV_AUTH="1", ENVIRONMENT="development")
    assert (await export(program, room, "canvas.json", "")).json()["operations"] == []


@pytest.mark.rule("LI2")
async def test_an_export_counts_as_a_message(table: System, room: str, gateway: Gateway) -> None:
    program = await gateway(MESSAGES_PER_MINUTE="2")
    for _ in range(2):
        assert (await export(program, room, "canvas.json", "greedy")).status_code == 200
    answer = await export(program, room, "canvas.png", "greedy")
    assert reason(answer) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) >= 1
    assert (await export(program, room, "canvas.json", "modest")).status_code == 200


async def test_a_gateway_goes_on_telling_while_it_exports(
    table: System, room: str, everyone: Players, gateway: Gateway
) -> None:
    program = await gateway(EXPORT_SECONDS="0.01")
    ann = await everyone("ann", at=program)
    answer = await export(program, room, "canvas.png")
    assert reason(answer) == (503, "overloaded")
    await ann.draw("still")
    await ann.event("canvas.draw")
