"""Drawing together: what may be drawn, undo and redo, live ink (CV1–CV4)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from roundtable.common.testing.forms import Players, refused
from roundtable.common.testing.players import WAIT, Player, stroke

BOTH_WAYS = pytest.mark.transports("websocket-json", "websocket-msgpack", "sse", "poll-msgpack")
ONE = pytest.mark.transports("websocket-json")
CORNERS = [{"x": 0, "y": 0}, {"x": 10, "y": 5}]


async def visible(who: Player) -> list[str]:
    state = await who.request("canvas.state")
    return [each["id"] for each in state["operations"]]


async def undo(who: Player, **params: Any) -> list[str]:
    answer = await who.request("canvas.undo", params)
    found: list[str] = answer["undone"]
    return found


async def redo(who: Player, **params: Any) -> list[str]:
    answer = await who.request("canvas.redo", params)
    found: list[str] = answer["redone"]
    return found


# Operations

GOOD: dict[str, dict[str, Any]] = {
    "a dot": stroke("s", points=[{"x": 0, "y": 0}]),
    "an eraser": stroke("s", type="erase", tool="eraser"),
    "a rectangle": stroke("s", type="shape", tool="rectangle", points=CORNERS),
    "a circle": stroke("s", type="shape", tool="circle", points=CORNERS),
    "the far corners": stroke("s", points=[{"x": 1_000_000, "y": -1_000_000}, {"x": -1e6, "y": 1e6}]),
    "a very thin line": stroke("s", size=0.001),
    "the thickest line": stroke("s", size=1_000),
    "three digits": stroke("s", color="#aBc"),
    "six digits": stroke("s", color="#A1b2C3"),
    "eight digits": stroke("s", color="#A1b2C3d4"),
    "2,000 points": stroke("s", points=[{"x": n, "y": n} for n in range(2_000)]),
    "one's own name": stroke("s", userId="ann"),
    "the longest id": stroke("ü" * 64),
}


@pytest.mark.rule("CV3", "EN3")
@BOTH_WAYS
@pytest.mark.parametrize("kind", GOOD)
async def test_what_may_be_drawn_is_told_to_all_as_it_was_drawn(player: Players, kind: str) -> None:
    operation = GOOD[kind]
    ann = await player("ann")
    bob = await player("bob", at=1)
    answer = await ann.request("canvas.draw", {"operations": [operation]})
    assert answer["operations"] == [operation["id"]]
    drawn = await bob.event("canvas.draw")
    assert drawn["data"] == {"operations": [{**operation, "userId": "ann"}]}
    state = await bob.request("canvas.state")
    assert state["operations"] == [{**operation, "userId": "ann"}]


BAD: dict[str, dict[str, Any]] = {
    "a drawing eraser": stroke("s", tool="eraser"),
    "an erasing pen": stroke("s", type="erase"),
    "a pen as a shape": stroke("s", type="shape"),
    "a rectangle as a line": stroke("s", tool="rectangle", points=CORNERS),
    "a circle as an eraser": stroke("s", type="erase", tool="circle", points=CORNERS),
    "a shape of one point": stroke("s", type="shape", tool="circle", points=CORNERS[:1]),
    "a shape of three points": stroke(
        "s", type="shape", tool="rectangle", points=[*CORNERS, {"x": 1, "y": 1}]
    ),
    "an unknown tool": stroke("s", tool="brush"),
    "an unknown type": stroke("s", type="paint"),
    "no points": stroke("s", points=[]),
    "2,001 points": stroke("s", points=[{"x": 1, "y": 1}] * 2_001),
    "a point too far": stroke("s", points=[{"x": 1_000_001, "y": 0}]),
    "a point much too far": stroke("s", points=[{"x": 0, "y": -1e300}]),
    "a point without y": stroke("s", points=[{"x": 1}]),
    "a point that is a pair": stroke("s", points=[[1, 2]]),
    "a coordinate that is a text": stroke("s", points=[{"x": "1", "y": 2}]),
    "a coordinate that is true": stroke("s", points=[{"x": True, "y": 2}]),
    "no width": stroke("s", size=0),
    "a negative width": stroke("s", size=-1),
    "too thick a line": stroke("s", size=1_000.5),
    "a colour by name": stroke("s", color="red"),
    "four digits": stroke("s", color="#abcd"),
    "a colour with more behind it": stroke("s", color="#abcdef;"),
    "a colour with a new line behind it": stroke("s", color="#abcdef\n"),
    "a colour of no digits": stroke("s", color="#ggg"),
    "an empty id": stroke(""),
    "too long an id": stroke("x" * 65),
    "an id that is a number": stroke("s", id=7),
    "no colour": {key: value for key, value in stroke("s").items() if key != "color"},
}


@pytest.mark.rule("CV3", "EN3", "EN7")
@BOTH_WAYS
@pytest.mark.parametrize("kind", BAD)
async def test_what_may_not_be_drawn_is_refused_with_all_of_its_request(player: Players, kind: str) -> None:
    ann = await player("ann")
    error = await refused(ann.request("canvas.draw", {"operations": [stroke("good"), BAD[kind]]}))
    assert error.word == (1007, "invalid_data")
    assert await visible(ann) == []


@pytest.mark.rule("CV3")
async def test_nobody_draws_in_anothers_name(player: Players) -> None:
    ann = await player("ann", "gm")
    error = await refused(ann.request("canvas.draw", {"operations": [stroke("s", userId="bob")]}))
    assert error.word == (1008, "forbidden")
    assert await visible(ann) == []


@pytest.mark.rule("CV3")
async def test_a_request_holds_one_to_a_hundred_operations(player: Players) -> None:
    ann = await player("ann")
    idents = [f"s{number}" for number in range(101)]
    for wrong in ([], idents):
        assert (await refused(ann.draw(*wrong))).word == (1007, "invalid_data")
    assert (await ann.draw(*idents[:100]))["operations"] == idents[:100]
    drawn = await ann.event("canvas.draw")
    assert [each["id"] for each in drawn["data"]["operations"]] == idents[:100]
    assert await visible(ann) == idents[:100]


@pytest.mark.rule("CV3")
async def test_the_server_gives_an_id_where_there_is_none(player: Players) -> None:
    ann = await player("ann")
    nameless = {key: value for key, value in stroke("").items() if key != "id"}
    answer = await ann.request("canvas.draw", {"operations": [nameless, stroke("named"), nameless]})
    first, named, second = answer["operations"]
    assert named == "named"
    assert 1 <= len(first) <= 64
    assert len({first, second, named}) == 3
    drawn = await ann.event("canvas.draw")
    assert [each["id"] for each in drawn["data"]["operations"]] == answer["operations"]


@pytest.mark.rule("CV3")
async def test_an_id_is_used_once_in_a_room(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob", at=1)
    await ann.draw("s")
    for who in (ann, bob):
        assert (await refused(who.draw("s"))).word == (1007, "invalid_data")
        assert (await refused(who.draw("new", "new"))).word == (1007, "invalid_data")
        assert (await refused(who.draw("other", "s"))).word == (1007, "invalid_data")
    await undo(ann)
    assert (await refused(bob.draw("s"))).word == (1007, "invalid_data")
    elsewhere = await player("ann", room=f"{player.room}-2")
    await elsewhere.draw("s")
    assert await visible(ann) == []


@pytest.mark.rule("CV3", "EN5")
async def test_the_canvas_is_read_in_the_order_in_which_it_was_drawn(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob", at=1)
    for number in range(5):
        await ann.draw(f"a{number}")
        await bob.draw(f"b{number}", f"c{number}")
    drawn = [f"{who}{number}" for number in range(5) for who in "abc"]
    assert await visible(ann) == drawn
    state = await bob.request("canvas.state")
    assert state.keys() == {"operations", "cursor"}
    late = await player("carol", cursor=state["cursor"])
    assert late.welcome["recovered"]
    await ann.draw("end")
    await late.event("canvas.draw")
    assert late.strokes() == ["end"]


# Clearing


@pytest.mark.rule("CV1", "AC8")
async def test_one_clears_what_is_ones_own_and_the_gm_everything(player: Players) -> None:
    ann = await player("ann")
    gm = await player("gm", "gm", at=1)
    await ann.draw("a1", "a2")
    await gm.draw("g1")
    answer = await ann.request("canvas.clear")
    assert answer["cleared"] == ["a1", "a2"]
    told = await gm.event("canvas.clear")
    assert told["data"] == {"scope": "mine", "userId": "ann", "cleared": ["a1", "a2"]}
    assert await visible(ann) == ["g1"]
    await ann.draw("a3")
    answer = await gm.request("canvas.clear", {"scope": "all"})
    assert sorted(answer["cleared"]) == ["a3", "g1"]
    assert "cursor" in answer
    told = await ann.event("canvas.clear", lambda data: data["userId"] == "gm")
    assert told["data"]["scope"] == "all"
    assert await visible(gm) == []


# Undo and redo


@pytest.mark.rule("CV1")
async def test_one_undo_takes_back_one_whole_command_and_redo_brings_it_again(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob", at=1)
    await ann.draw("one")
    await ann.draw("two", "three")
    answer = await ann.request("canvas.undo")
    assert sorted(answer["undone"]) == ["three", "two"]
    assert "cursor" in answer
    told = await bob.event("canvas.undo")
    assert sorted(told["data"]["operations"]) == ["three", "two"]
    assert (told["data"]["userId"], told["data"]["restored"]) == ("ann", [])
    assert await visible(bob) == ["one"]
    answer = await ann.request("canvas.redo")
    assert sorted(answer["redone"]) == ["three", "two"]
    told = await bob.event("canvas.redo")
    assert sorted(told["data"]["operations"]) == ["three", "two"]
    assert (told["data"]["userId"], told["data"]["hidden"]) == ("ann", [])
    assert await visible(bob) == ["one", "two", "three"]


@pytest.mark.rule("CV1")
async def test_undo_is_each_users_own(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob", at=1)
    await ann.draw("a")
    await bob.draw("b")
    assert await undo(ann) == ["a"]
    assert await undo(ann) == []
    assert await visible(bob) == ["b"]
    assert await undo(bob) == ["b"]
    assert await redo(ann) == ["a"]
    assert await visible(ann) == ["a"]


@pytest.mark.rule("CV1")
async def test_the_undo_of_a_clear_shows_again_what_it_hid(player: Players) -> None:
    ann = await player("ann")
    gm = await player("gm", "gm", at=1)
    await ann.draw("a1")
    await gm.draw("g1")
    await ann.draw("a2")
    await gm.request("canvas.clear", {"scope": "all"})
    assert await visible(ann) == []
    await undo(gm)
    told = await ann.event("canvas.undo")
    assert sorted(told["data"]["restored"]) == ["a1", "a2", "g1"]
    assert told["data"]["operations"] == []
    assert await visible(ann) == ["a1", "g1", "a2"]
    await redo(gm)
    told = await ann.event("canvas.redo")
    assert sorted(told["data"]["hidden"]) == ["a1", "a2", "g1"]
    assert await visible(ann) == []


@pytest.mark.rule("CV1")
@ONE
async def test_as_many_redos_as_undos_give_the_canvas_back_exactly(player: Players) -> None:
    ann = await player("ann", "gm")
    bob = await player("bob")
    await bob.draw("b1")
    await ann.draw("a1")
    await ann.draw("a2", "a3")
    await ann.request("canvas.clear", {"scope": "mine"})
    await ann.draw("a4")
    await bob.draw("b2")
    await ann.request("canvas.clear", {"scope": "all"})
    await ann.draw("a5")
    states = [(await ann.request("canvas.state"))["operations"]]
    for _ in range(6):
        await ann.request("canvas.undo")
        states.append((await ann.request("canvas.state"))["operations"])
    assert [each["id"] for each in states[-1]] == ["b1", "b2"]
    assert await undo(ann) == []
    for before in reversed(states[:-1]):
        await ann.request("canvas.redo")
        assert (await ann.request("canvas.state"))["operations"] == before
    assert await redo(ann) == []


@pytest.mark.rule("CV1")
async def test_to_draw_or_clear_forgets_what_could_be_redone(player: Players) -> None:
    ann = await player("ann")
    await ann.draw("one")
    await undo(ann)
    await ann.draw("two")
    assert await redo(ann) == []
    assert await visible(ann) == ["two"]
    await ann.draw("three")
    await undo(ann)
    await ann.request("canvas.clear")
    assert await redo(ann) == []
    assert await visible(ann) == []


@pytest.mark.rule("CV1")
async def test_what_others_draw_does_not_touch_ones_redo(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    await ann.draw("a")
    await undo(ann)
    await bob.draw("b")
    assert await redo(ann) == ["a"]
    assert await visible(bob) == ["a", "b"]


@pytest.mark.rule("CV2")
async def test_nothing_to_undo_is_no_error_and_nobody_is_told(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    for method, field in (("canvas.undo", "undone"), ("canvas.redo", "redone"), ("canvas.clear", "cleared")):
        answer = await ann.request(method)
        assert answer[field] == []
        assert answer["cursor"]
    await ann.draw("s")
    await bob.event("canvas.draw")
    assert not [name for name in bob.told() if name in ("canvas.undo", "canvas.redo")]


@pytest.mark.rule("CV2", "CO4")
async def test_undo_goes_on_after_a_reconnect_and_on_another_device(player: Players) -> None:
    ann = await player("ann")
    await ann.draw("one")
    await ann.draw("two")
    await ann.draw("three")
    assert await undo(ann) == ["three"]
    await ann.close()
    back = await player("ann", at=1, cursor=ann.cursor)
    assert await undo(back) == ["two"]
    tablet = await player("ann", transport="sse")
    assert await redo(tablet) == ["two"]
    assert await redo(back) == ["three"]
    assert await visible(tablet) == ["one", "two", "three"]


@pytest.mark.rule("CV1")
async def test_undo_of_somebody_unknown_finds_nothing(player: Players) -> None:
    gm = await player("gm", "gm")
    assert await undo(gm, userId="nobody") == []
    assert await redo(gm, userId="nobody") == []


# Live ink


def ink(ident: str, *points: tuple[float, float], **fields: Any) -> dict[str, Any]:
    shown = [{"x": x, "y": y} for x, y in points]
    return {"id": ident, "tool": "pen", "color": "#123456", "size": 2, "points": shown, **fields}


def seen_ink(who: Player) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """All points of all previews, by user and id."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for message in who.messages:
        if message["type"] == "event" and message["method"] == "canvas.preview":
            for each in message["data"]["previews"]:
                points = found.setdefault((each["userId"], each["id"]), [])
                points += [(point["x"], point["y"]) for point in each["points"]]
    return found


@pytest.mark.rule("CV4", "CV3", "EN4")
async def test_a_stroke_is_seen_by_the_others_while_it_is_drawn(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    far = await player("far", at=1)
    await ann.tell("canvas.preview", ink("s", (1, 2)))
    for each in (bob, far):
        shown = await each.event("canvas.preview")
        assert "id" not in shown
        assert shown["data"] == {
            "previews": [
                {
                    "userId": "ann",
                    "id": "s",
                    "tool": "pen",
                    "color": "#123456",
                    "size": 2,
                    "points": [{"x": 1, "y": 2}],
                }
            ]
        }
    await ann.draw("s")
    for each in (ann, bob, far):
        await each.event("canvas.draw")
    assert "canvas.preview" not in ann.told()
    newcomer = await player("newcomer")
    assert [each["id"] for each in newcomer.shown["canvas"]] == ["s"]


@pytest.mark.rule("CV4")
async def test_no_point_of_a_preview_is_lost_however_fast_it_comes(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    far = await player("far", at=1)
    points = [(float(number), 0.5) for number in range(300)]
    for start in range(0, len(points), 10):
        await ann.transmit(
            [
                {"type": "event", "method": "canvas.preview", "params": ink("s", point)}
                for point in points[start : start + 10]
            ]
        )
    for each in (bob, far):
        await each.wait_for(lambda each=each: len(seen_ink(each).get(("ann", "s"), [])) >= len(points))  # type: ignore[misc]
        assert seen_ink(each) == {("ann", "s"): points}
    assert ann.errors() == []


@pytest.mark.rule("CV4")
@ONE
async def test_at_most_sixty_previews_a_second_of_a_connection_are_passed_on(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < 1.0:
        await ann.tell("canvas.preview", ink("s", (number, 0)))
        await ann.request("heartbeat")
        number += 1
    await bob.wait_for(lambda: len(seen_ink(bob).get(("ann", "s"), [])) >= number)
    took = time.monotonic() - began
    told = bob.told().count("canvas.preview")
    assert told <= 60 * took + 2
    assert number > told or number < 60


@pytest.mark.rule("CV4")
@ONE
async def test_previews_of_many_at_one_moment_travel_together(player: Players) -> None:
    there = [await player(f"p{number}") for number in range(5)]
    watcher = await player("watcher", at=1)
    rounds = 20

    async def inks(who: Player) -> None:
        for number in range(rounds):
            await who.tell("canvas.preview", ink(f"by-{who.user}", (number, 0)))

    async with asyncio.timeout(2 * WAIT):
        await asyncio.gather(*map(inks, there))
        await watcher.wait_for(lambda: sum(map(len, seen_ink(watcher).values())) >= 5 * rounds)
    assert all(len(points) == rounds for points in seen_ink(watcher).values())
    assert watcher.told().count("canvas.preview") < 5 * rounds / 2


@pytest.mark.rule("CV4", "EN3")
@BOTH_WAYS
async def test_a_wrong_preview_is_refused_and_shown_to_nobody(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    wrong = [
        ink("s"),
        ink("s", (1e9, 0)),
        ink("", (1, 1)),
        ink("s", (1, 1), color="red"),
        ink("s", (1, 1), userId="bob"),
        ink("s", *[(1, 1)] * 2_001),
    ]
    for each in wrong:
        await ann.tell("canvas.preview", each)
    await ann.wait_for(lambda: len(ann.errors()) == len(wrong))
    assert {(each["code"], each["reason"]) for each in ann.errors()} == {(1007, "invalid_data")}
    assert (await refused(ann.request("canvas.preview", ink("s", (1, 1))))).code == 1007
    await ann.draw("end")
    await bob.event("canvas.draw")
    assert "canvas.preview" not in bob.told()
