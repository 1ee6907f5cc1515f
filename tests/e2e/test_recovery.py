"""Coming back with a cursor, repeating a request, and reading slowly: nothing is lost and nothing comes twice (RS1–RS8)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import nats
import pytest

from roundtable.common.testing.forms import TRANSPORTS, Players, http, refused, until
from roundtable.common.testing.players import WAIT, Player, Problem, stroke, token
from roundtable.common.testing.proxy import NatsProxy
from roundtable.common.testing.system import Program, System, system
from roundtable.common.testing.wire import CLOSE, TEXT, Wire, closing

CURSOR = re.compile(r"[A-Za-z0-9._~-]{1,99}")


def kept(who: Player) -> list[dict[str, Any]]:
    """The events that move the cursor, but the welcome."""
    return [
        m for m in who.messages if m["type"] == "event" and "id" in m and m["method"] != "session.welcome"
    ]


def of(log: str, messages: list[dict[str, Any]]) -> list[Any]:
    return [m["data"] for m in messages if m["method"].startswith(log)]


async def say(who: Player, text: str) -> Any:
    return await who.request("activity.post", {"type": "chat_message", "data": {"text": text}})


async def poll(program: Program, user: str, room: str, cursor: str) -> list[dict[str, Any]]:
    """All that a cursor leads to at once: events of one poll that does not wait."""
    async with http(program) as client:
        answer = await client.get(
            "/poll",
            params={"room": room, "cursor": cursor, "timeout": "0"},
            headers={"Authorization": f"Bearer {token(user)}"},
        )
    assert answer.status_code == 200
    return [{**event, "method": event["type"]} for event in answer.json()["events"]]


# The cursor


@pytest.mark.rule("RS1", "EN4")
async def test_a_cursor_is_short_and_safe_in_a_url(player: Players) -> None:
    ann = await player("ann")
    answer = await ann.draw("s")
    await say(ann, "hi")
    await ann.event("activity.post", lambda data: data["type"] == "chat_message")
    cursors = [ann.welcome["cursor"], answer["cursor"], *(m["id"] for m in kept(ann))]
    assert len(cursors) >= 4
    for cursor in cursors:
        assert CURSOR.fullmatch(cursor)


@pytest.mark.rule("RS1", "RS2", "CO4")
async def test_a_cursor_of_any_transport_is_good_for_any_other_at_any_gateway(player: Players) -> None:
    before = await player("ann")
    other = await player("bob")
    place = before.welcome["cursor"]
    await other.draw("one")
    await other.draw("two")
    await before.event("canvas.draw", lambda data: data["operations"][0]["id"] == "two")
    middle = next(m["id"] for m in kept(before) if m["method"] == "canvas.draw")
    await before.close()
    for number, transport in enumerate(TRANSPORTS):
        for cursor, missed in ((place, ["one", "two"]), (middle, ["two"])):
            again = await player("ann", transport=transport, at=number % 2, cursor=cursor)
            assert again.welcome["recovered"]
            await again.event("canvas.draw", lambda data: data["operations"][0]["id"] == "two")
            assert again.strokes() == missed
            await again.close()


@pytest.mark.rule("RS2")
async def test_who_comes_back_gets_all_they_missed_once_in_order_and_then_what_is_live(
    player: Players,
) -> None:
    ann = await player("ann")
    bob = await player("bob")
    await bob.draw("seen")
    await ann.event("canvas.draw")
    await ann.close()
    place = ann.cursor
    for number in range(12):
        await bob.draw(f"missed-{number}")
        await say(bob, f"missed {number}")
    again = await player("ann", at=1, cursor=place)
    assert again.welcome["recovered"]
    assert again.messages[0]["method"] == "session.welcome"
    await bob.draw("live")
    await again.event("canvas.draw", lambda data: data["operations"][0]["id"] == "live")
    assert again.strokes() == [*(f"missed-{number}" for number in range(12)), "live"]
    said = [each["data"]["text"] for each in of("activity", kept(again)) if each["type"] == "chat_message"]
    assert said == [f"missed {number}" for number in range(12)]
    assert not [name for name in again.told() if name.endswith(".snapshot")]
    assert len({m["id"] for m in kept(again)}) == len(kept(again))


@pytest.mark.rule("RS2")
async def test_the_answer_to_a_command_tells_a_place_to_come_back_to(player: Players) -> None:
    ann = await player("ann")
    first = await ann.draw("one")
    await ann.draw("two")
    again = await player("ann", at=1, cursor=first["cursor"])
    assert again.welcome["recovered"]
    await again.event("canvas.draw")
    assert again.strokes() == ["two"]


@pytest.mark.rule("RS2")
async def test_every_place_in_a_crowd_of_events_leads_to_exactly_the_rest(
    table: System, everyone: Players
) -> None:
    """Many commands at once share one stored message, so a cursor may point into the middle of one."""
    ann = await everyone("ann")
    crowd = [await everyone(f"p{number}", at=number % 2) for number in range(3)]
    together = [
        each.transmit(
            [
                {"type": "request", "id": f"{each.user}-{number}", "method": "canvas.draw",
                 "params": {"operations": [stroke(f"{each.user}-{number}")]}}
                for number in range(6)
            ]
        )
        for each in crowd
    ]  # fmt: skip
    await asyncio.gather(*together, *(say(each, f"from {each.user}") for each in crowd))
    await ann.wait_for(lambda: len(ann.strokes()) == 18)
    await say(ann, "enough")
    await ann.event("activity.post", lambda data: data["data"].get("text") == "enough")
    events = kept(ann)
    for number, event in enumerate(events):
        rest = await poll(table.of("gateway")[number % 2], "ann", everyone.room, event["id"])
        assert rest[0]["data"]["recovered"]
        for log in ("canvas", "presence", "activity"):
            assert of(log, rest) == of(log, events[number + 1 :])


@pytest.mark.rule("RS2", "CO4", "CO5")
async def test_a_reader_who_changes_transport_and_gateway_all_the_time_misses_nothing(
    everyone: Players,
) -> None:
    writers = [await everyone(f"w{number}", at=number) for number in range(2)]
    watcher = await everyone("watcher", "spectator")
    strokes: list[str] = []
    hops = 2 * len(TRANSPORTS)
    done = asyncio.Event()

    async def write(who: Player) -> None:
        number = 0
        while not done.is_set():
            await who.draw(f"{who.user}-{number}")
            number += 1

    writing = [asyncio.create_task(write(each)) for each in writers]
    place = watcher.welcome["cursor"]
    names = list(TRANSPORTS)
    async with asyncio.timeout(6 * WAIT):
        for hop in range(hops):
            reader = await everyone(
                "reader", transport=names[(5 * hop + hop // 6) % 6], at=hop % 2, cursor=place
            )
            assert reader.welcome["recovered"]
            few = 1 + hop % 3
            await reader.wait_for(lambda reader=reader, few=few: len(reader.strokes()) >= few)  # type: ignore[misc]
            await reader.close()
            strokes += reader.strokes()
            place = reader.cursor
        done.set()
        await asyncio.gather(*writing)
        reader = await everyone("reader", at=1, cursor=place)
        await writers[0].draw("end")
        await reader.event("canvas.draw", lambda data: data["operations"][0]["id"] == "end")
        strokes += reader.strokes()
        await watcher.event("canvas.draw", lambda data: data["operations"][0]["id"] == "end")
    assert strokes == watcher.strokes()


# Not recovered


@pytest.mark.rule("RS3")
@pytest.mark.transports("websocket-json", "sse", "poll-json")
@pytest.mark.parametrize(
    "cursor", ["x", "0.0.0.0", "....", "1" * 99, "-1.-1.-1.-1", "zzzzzzzz.1.1.1", "a.b.c.d", "~"]
)
async def test_with_a_cursor_that_is_none_of_ours_one_is_shown_the_room_anew(
    player: Players, cursor: str
) -> None:
    ann = await player("ann")
    await ann.draw("s")
    again = await player("bob", cursor=cursor)
    assert again.welcome["recovered"] is False
    assert again.told()[:4] == [
        "session.welcome",
        "canvas.snapshot",
        "presence.snapshot",
        "activity.snapshot",
    ]
    assert [each["id"] for each in again.shown["canvas"]] == ["s"]
    await ann.draw("t")
    await again.event("canvas.draw")
    assert again.strokes() == ["t"]


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[System]:
    """A system to do harm to; what it has acknowledged is on the disk."""
    async with system(gateways=2, sync=True) as running:
        yield running


@pytest.fixture
async def harmed(own: System, room: str) -> AsyncIterator[Players]:
    """Players of that system, in one room, over the first transport."""
    players = Players(own, room, next(iter(TRANSPORTS)))
    yield players
    await players.leave()


@pytest.mark.rule("RS3")
async def test_the_cursor_of_another_log_recovers_nothing(
    own: System, everyone: Players, harmed: Players
) -> None:
    ann = await everyone("ann")
    await ann.draw("elsewhere")
    await ann.event("canvas.draw")
    local = await harmed("ann")
    await local.draw("here")
    for transport in TRANSPORTS:
        comer = await harmed("bob", transport=transport, at=1, cursor=ann.cursor)
        assert comer.welcome["recovered"] is False
        assert [each["id"] for each in comer.shown["canvas"]] == ["here"]


@pytest.mark.rule("RS6", "CV2")
async def test_a_crash_of_the_canvas_service_loses_neither_answers_nor_undo(
    own: System, harmed: Players
) -> None:
    ann = await harmed("ann")
    first = await ann.draw("one", ident="first")
    await ann.draw("two")
    (canvas,) = own.of("canvas")
    await canvas.kill()
    canvas.start()
    await canvas.ready()
    assert await ann.draw("one", ident="first", wait=2 * WAIT) == first
    assert (await ann.request("canvas.undo"))["undone"] == ["two"]
    assert (await ann.request("canvas.undo"))["undone"] == ["one"]
    assert (await ann.request("canvas.redo"))["redone"] == ["one"]
    await ann.event("canvas.redo")
    assert ann.strokes() == ["one", "two"]


@pytest.mark.rule("RS6", "RS7", "RS2")
async def test_what_was_answered_survives_a_crash_of_the_log_and_what_was_not_may_be_repeated(
    own: System, harmed: Players
) -> None:
    ann = await harmed("ann")
    watcher = await harmed("watcher", at=1)
    idents = [f"s{number}" for number in range(30)]
    answered: list[str] = []

    async def draw(ident: str) -> None:
        while ident not in answered:
            with contextlib.suppress(TimeoutError):
                try:
                    await ann.draw(ident, ident=f"ask-{ident}", wait=1.0)
                    answered.append(ident)
                except Problem as problem:
                    assert problem.code in (1011, 1013), problem  # noqa: PT017

    drawing = [asyncio.create_task(draw(ident)) for ident in idents]
    await until(_enough(answered, 3), every=0.001)
    await own.nats.kill()
    before = list(answered)
    await own.nats.start()
    async with asyncio.timeout(6 * WAIT):
        await asyncio.gather(*drawing)
        state = await ann.request("canvas.state")
        drawn = [each["id"] for each in state["operations"]]
        assert sorted(drawn) == sorted(idents)
        assert set(before) <= set(drawn)
        for each in (ann, watcher):
            await each.wait_for(lambda each=each: len(each.strokes()) >= len(idents), 2 * WAIT)  # type: ignore[misc]
            assert each.strokes() == drawn


def _enough(found: list[str], number: int) -> Any:
    async def enough() -> bool:
        return len(found) >= number

    return enough


@pytest.mark.rule("RS7")
async def test_an_answer_means_that_the_event_is_in_the_log(own: System, harmed: Players) -> None:
    ann = await harmed("ann")
    client = await nats.connect(own.nats.url)
    try:
        stream = client.jetstream()
        for number in range(10):
            await ann.draw(f"s{number}")
            stored = await stream.get_last_msg("CANVAS", f"rt.evt.canvas.{harmed.room}")
            assert f"s{number}".encode() in (stored.data or b"")
    finally:
        await client.close()


@pytest.mark.rule("RS3")
async def test_after_retention_has_cut_the_way_one_is_shown_the_room_anew(
    own: System, harmed: Players
) -> None:
    """Last with this system, as the beginning of its log goes."""
    ann = await harmed("ann")
    old = ann.welcome["cursor"]
    for number in range(5):
        await ann.draw(f"s{number}")
    late = (await ann.draw("s5"))["cursor"]
    client = await nats.connect(own.nats.url)
    try:
        stream = client.jetstream()
        last = (await stream.stream_info("CANVAS")).state.last_seq
        await stream.purge_stream("CANVAS", seq=last)  # all before the last one
    finally:
        await client.close()
    for transport in TRANSPORTS:
        cut = await harmed("bob", transport=transport, at=1, cursor=old)
        assert cut.welcome["recovered"] is False
        assert [each["id"] for each in cut.shown["canvas"]] == [f"s{number}" for number in range(6)]
        whole = await harmed("bob", transport=transport, at=1, cursor=late)
        assert whole.welcome["recovered"] is True


# A gateway that misses something


@pytest.mark.rule("RS4")
async def test_what_a_gateway_was_not_told_it_fetches_before_anything_later(
    table: System, gateway: Any, everyone: Players
) -> None:
    proxy = NatsProxy(table.nats.port)
    await proxy.start()
    try:
        deaf: Program = await gateway(NATS_URL=proxy.url)
        readers = [await everyone(name, transport=name, at=deaf) for name in TRANSPORTS]
        writer = await everyone("writer")
        proxy.swallow = lambda subject: subject == f"rt.out.canvas.{everyone.room}"
        for number in range(5):
            await writer.draw(f"s{number}")
        await until(lambda: _swallowed(proxy, 5))
        assert all(each.strokes() == [] for each in readers)
        proxy.swallow = lambda _: False
        await writer.draw("s5")
        for each in readers:
            await each.wait_for(lambda each=each: len(each.strokes()) >= 6)  # type: ignore[misc]
            assert each.strokes() == [f"s{number}" for number in range(6)]
            cursors = [m["id"] for m in kept(each)]
            assert all(one != two for one, two in pairwise(cursors))
    finally:
        await proxy.stop()


async def _swallowed(proxy: NatsProxy, number: int) -> bool:
    return proxy.swallowed >= number


# What one may not see


@pytest.mark.rule("RS5", "AC3")
async def test_what_one_may_not_see_moves_the_cursor_and_tells_nothing(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    carol = await player("carol", "gm", at=1)
    before = carol.cursor
    whisper = {"type": "chat_message", "data": {"text": "the secret"}, "to": ["bob"]}
    await ann.request("activity.post", whisper)
    heard = await bob.event("activity.post", lambda data: data["type"] == "chat_message")
    moved = await carol.event("session.cursor")
    assert moved["data"] == {}
    assert CURSOR.fullmatch(moved["id"])
    await ann.draw("after")
    await carol.event("canvas.draw")
    assert "secret" not in json.dumps(carol.messages)
    # The places of both are good, and lead past it.
    for user, place in (("carol", moved["id"]), ("bob", heard["id"])):
        again = await player(user, at=1, cursor=place)
        assert again.welcome["recovered"]
        await again.event("canvas.draw")
        assert again.strokes() == ["after"]
        assert "secret" not in json.dumps(again.messages)
    replayed = await player("carol", "gm", cursor=before)
    await replayed.event("canvas.draw")
    assert "session.cursor" in replayed.told()
    assert "secret" not in json.dumps(replayed.messages)


# Repeating a request


@pytest.mark.rule("RS6")
async def test_a_repeated_request_takes_effect_once_and_gets_the_first_answer(player: Players) -> None:
    ann = await player("ann")
    first = await ann.draw("s", ident="again")
    assert await ann.draw("s", ident="again") == first
    elsewhere = await player("ann", at=1)
    assert await elsewhere.draw("s", ident="again") == first
    for transport in TRANSPORTS:
        other = await player("ann", transport=transport, at=1)
        assert await other.draw("s", ident="again") == first
    await ann.draw("end")
    await ann.event("canvas.draw", lambda data: data["operations"][0]["id"] == "end")
    assert ann.strokes() == ["s", "end"]


@pytest.mark.rule("RS6", "AC4")
async def test_a_repeated_roll_has_the_same_result(player: Players) -> None:
    ann = await player("ann")
    roll = {"type": "dice_roll", "data": {"expression": "20d1000"}}
    first = await ann.request("activity.post", roll, ident="roll")
    again = await player("ann", at=1)
    assert await again.request("activity.post", roll, ident="roll") == first
    rolls = await ann.request("activity.list", {"types": ["dice_roll"]})
    assert len(rolls["activities"]) == 1


@pytest.mark.rule("RS6", "PR3")
async def test_a_repeated_change_of_presence_changes_nothing_and_gets_the_first_answer(
    player: Players,
) -> None:
    ann = await player("ann")
    again = await player("ann", at=1)
    first = await ann.request("presence.update", {"status": "away"}, ident="away")
    await ann.tell("presence.cursor", {"x": 1, "y": 1})
    await ann.request("presence.update", {"status": "online"})
    for each in (ann, again):
        assert await each.request("presence.update", {"status": "away"}, ident="away") == first
    (me,) = (await ann.request("presence.list"))["presence"]
    assert me["status"] == "online"


@pytest.mark.rule("RS6")
async def test_a_request_that_is_asked_everywhere_at_once_takes_effect_once(player: Players) -> None:
    there = [await player("ann", at=number % 2) for number in range(4)]
    note = {"type": "note_edited", "data": {"noteId": "n"}}
    answers = await asyncio.gather(*(each.request("activity.post", note, ident="same") for each in there))
    assert all(answer == answers[0] for answer in answers)
    notes = await there[0].request("activity.list", {"types": ["note_edited"]})
    assert len(notes["activities"]) == 1


@pytest.mark.rule("RS6")
async def test_a_refused_request_may_be_repeated_and_is_refused_again(player: Players) -> None:
    ann = await player("ann")
    await ann.draw("s")
    for _ in range(2):
        assert (await refused(ann.draw("s", ident="second"))).code == 1007


@pytest.mark.rule("RS6")
async def test_an_id_is_each_users_own_and_each_rooms(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    elsewhere = await player("ann", room=f"{player.room}-2")
    assert (await ann.draw("by-ann", ident="same"))["operations"] == ["by-ann"]
    assert (await bob.draw("by-bob", ident="same"))["operations"] == ["by-bob"]
    assert (await elsewhere.draw("by-ann", ident="same"))["operations"] == ["by-ann"]
    await bob.event("canvas.draw", lambda data: data["operations"][0]["id"] == "by-bob")
    assert bob.strokes() == ["by-ann", "by-bob"]
    assert [each["id"] for each in (await elsewhere.request("canvas.state"))["operations"]] == ["by-ann"]


@pytest.mark.rule("RS6", "CV1")
async def test_a_repeated_undo_undoes_once(player: Players) -> None:
    ann = await player("ann")
    await ann.draw("one")
    await ann.draw("two")
    first = await ann.request("canvas.undo", ident="undo")
    assert await ann.request("canvas.undo", ident="undo") == first
    assert [each["id"] for each in (await ann.request("canvas.state"))["operations"]] == ["one"]


# Slow readers


def thick(ident: str) -> dict[str, Any]:
    """A stroke of about 60 KB."""
    return stroke(ident, points=[{"x": 100_000.125 + n, "y": -200_000.375 - n} for n in range(1_500)])


@pytest.fixture(scope="module")
async def crowded(gateway: Any) -> Program:
    program: Program = await gateway()
    return program


async def sent_away(program: Program) -> float:
    """How many were, for reading too slowly."""
    async with http(program) as client:
        text = (await client.get("/metrics")).text
    counts = re.findall(r'^\w+closed\w*\{[^}]*"slow_consumer"[^}]*\} ([0-9.e+]+)$', text, re.MULTILINE)
    return sum(map(float, counts))


@pytest.mark.rule("RS8", "EN7")
@pytest.mark.parametrize("how", ["websocket", "sse"])
async def test_who_does_not_read_is_sent_away_and_slows_nobody_else(
    crowded: Program, everyone: Players, how: str
) -> None:
    program, before = crowded, await sent_away(crowded)
    watcher = await everyone("watcher", at=program)
    writers = [await everyone(f"w{number}", at=program) for number in range(2)]
    async with Wire(program, narrow=True) as slow:
        if how == "websocket":
            await slow.upgrade(everyone.room, "slow")
            await slow.message("event", method="activity.snapshot")
        else:
            status, _ = await slow.ask(f"/sse?room={everyone.room}", Authorization=f"Bearer {token('slow')}")
            assert status == 200
            await slow.through(b"event: activity.snapshot")
        drawn = 0
        async with asyncio.timeout(6 * WAIT):
            while await sent_away(program) == before:
                assert drawn < 400, "was never sent away"
                idents = [f"s{drawn + number}" for number in range(4)]
                asked = [
                    writers[number % 2].request("canvas.draw", {"operations": [thick(ident)]})
                    for number, ident in enumerate(idents)
                ]
                await asyncio.gather(*asked)
                drawn += len(idents)
            await watcher.wait_for(lambda: len(watcher.strokes()) == drawn)
        if how == "websocket":
            assert await slow.closed() == (1013, "slow_consumer")
        else:
            told = await slow.through(b"\r\n0\r\n\r\n")
            last = told.decode(errors="replace").rpartition("event: ")[2]
            assert last.startswith("error")
            assert '"slow_consumer"' in last
            assert "1013" in last
        # Its place is good: it comes back for the rest.
        assert slow.received < 16 << 20
    back = await everyone("slow", at=program)
    assert len(back.shown["canvas"]) == drawn


@pytest.mark.rule("RS8", "CV4")
async def test_what_is_not_kept_is_left_out_for_a_slow_reader_before_they_are_sent_away(
    crowded: Program, everyone: Players
) -> None:
    program, before = crowded, await sent_away(crowded)
    ann = await everyone("ann", at=program)
    watcher = await everyone("watcher", at=program)
    async with Wire(program, narrow=True) as slow:
        await slow.upgrade(everyone.room, "slow")
        await slow.message("event", method="activity.snapshot")
        ink = {"tool": "pen", "color": "#fff", "size": 1, "points": thick("")["points"]}
        for number in range(100):
            await ann.tell("canvas.preview", {"id": f"p{number}", **ink})
            await ann.request("heartbeat")
        await ann.draw("kept")
        await watcher.event("canvas.draw", wait=2 * WAIT)
        async with asyncio.timeout(2 * WAIT):
            while True:
                came = await slow.frame()
                assert came.opcode != CLOSE, closing(came)
                if came.opcode == TEXT and json.loads(came.payload)["method"] == "canvas.draw":
                    break
        assert await sent_away(program) == before
        await slow.say({"type": "request", "id": "1", "method": "heartbeat"})
        await slow.message("response", id="1")
