"""The feed: talk, whispers, dice, and what the server itself writes into it (AC1–AC9)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import unicodedata
from typing import Any

import pytest

from roundtable.common.testing.forms import Players, refused
from roundtable.common.testing.players import WAIT, Player, Problem

BOTH_WAYS = pytest.mark.transports("websocket-json", "websocket-msgpack", "sse", "poll-msgpack")
ONE = pytest.mark.transports("websocket-json")


async def post(who: Player, kind: str, data: Any, **fields: Any) -> Any:
    return await who.request("activity.post", {"type": kind, "data": data, **fields})


async def say(who: Player, text: str, **fields: Any) -> Any:
    return await post(who, "chat_message", {"text": text}, **fields)


async def roll(who: Player, expression: str, **fields: Any) -> Any:
    return await post(who, "dice_roll", {"expression": expression}, **fields)


async def feed(who: Player, **query: Any) -> list[Any]:
    answer = await who.request("activity.list", query)
    found: list[Any] = answer["activities"]
    return found


def posted(who: Player, kind: str) -> list[Any]:
    """What was told of that type."""
    return [
        m["data"]
        for m in who.messages
        if m["type"] == "event" and m["method"] == "activity.post" and m["data"]["type"] == kind
    ]


def of(kind: str) -> Any:
    return lambda data: data["type"] == kind


# Posting


@pytest.mark.rule("AC1", "EN5")
async def test_an_activity_is_told_to_all_as_its_sender_is_answered(player: Players) -> None:
    before = time.time() * 1000
    ann = await player("ann")
    bob = await player("bob", at=1)
    answer = await say(ann, "Well met!")
    assert answer.keys() == {"id", "type", "userId", "username", "data", "timestamp"}
    assert (answer["type"], answer["userId"], answer["username"]) == ("chat_message", "ann", "Ann")
    assert answer["data"] == {"text": "Well met!"}
    assert before - 1_000 <= answer["timestamp"] <= time.time() * 1000 + 1_000
    for each in (ann, bob):
        told = await each.event("activity.post", of("chat_message"))
        assert told["data"] == answer


@pytest.mark.rule("AC1")
async def test_ids_sort_by_time(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob", at=1)
    idents = [(await say(who, "x"))["id"] for _ in range(10) for who in (ann, bob)]
    assert idents == sorted(idents)
    assert len(set(idents)) == 20


GOOD: dict[str, tuple[str, Any]] = {
    "a turn": ("turn_changed", {"current": "Goblin"}),
    "a turn with its round": ("turn_changed", {"current": "a", "round": 3, "order": ["a", "b", "c"]}),
    "a map": ("map_updated", {"mapId": "cellar"}),
    "a map with more": (
        "map_updated",
        {"mapId": "cellar", "fog": [1, 2, {"deep": True}], "title": "The cellar"},
    ),
    "a note": ("note_edited", {"noteId": "n1"}),
    "a note with its text": ("note_edited", {"noteId": "n1", "title": "Rumours", "summary": "She knows."}),
    "a short text": ("chat_message", {"text": "x"}),
    "a long text": ("chat_message", {"text": "ü" * 4_000}),
    "a text of many kinds": ("chat_message", {"text": "<b>&\"'` 𝔇🎲 \u202eדג\n\tend"}),
}


@pytest.mark.rule("AC7", "AC3", "AC9")
@BOTH_WAYS
@pytest.mark.parametrize("kind", GOOD)
async def test_each_type_is_kept_as_it_was_posted(player: Players, kind: str) -> None:
    name, data = GOOD[kind]
    ann = await player("ann")
    bob = await player("bob", at=1)
    answer = await post(ann, name, data)
    assert answer["data"] == data
    told = await bob.event("activity.post", of(name))
    assert told["data"] == answer
    assert await feed(bob, types=[name]) == [answer]


BAD: dict[str, dict[str, Any]] = {
    "no type": {"data": {"text": "x"}},
    "no data": {"type": "chat_message"},
    "an unknown type": {"type": "shout", "data": {"text": "x"}},
    "no text": {"type": "chat_message", "data": {}},
    "an empty text": {"type": "chat_message", "data": {"text": ""}},
    "too long a text": {"type": "chat_message", "data": {"text": "x" * 4_001}},
    "a text that is a number": {"type": "chat_message", "data": {"text": 7}},
    "data that is a text": {"type": "chat_message", "data": "x"},
    "a text with more": {"type": "chat_message", "data": {"text": "x", "html": "<b>x</b>"}},
    "an id of one's own": {"type": "chat_message", "data": {"text": "x"}, "id": "mine"},
    "a name of one's own": {"type": "chat_message", "data": {"text": "x"}, "userId": "bob"},
    "whispered to a text": {"type": "chat_message", "data": {"text": "x"}, "to": "bob"},
    "whispered to a number": {"type": "chat_message", "data": {"text": "x"}, "to": [7]},
    "a turn of nobody": {"type": "turn_changed", "data": {}},
    "a round that is a text": {"type": "turn_changed", "data": {"current": "a", "round": "one"}},
    "half a round": {"type": "turn_changed", "data": {"current": "a", "round": 1.5}},
    "an order of numbers": {"type": "turn_changed", "data": {"current": "a", "order": [1, 2]}},
    "no map": {"type": "map_updated", "data": {"title": "x"}},
    "a map that is a number": {"type": "map_updated", "data": {"mapId": 7}},
    "no note": {"type": "note_edited", "data": {"title": "x"}},
    "a note with more": {"type": "note_edited", "data": {"noteId": "n", "body": "x"}},
    "no expression": {"type": "dice_roll", "data": {}},
    "a roll with its result": {"type": "dice_roll", "data": {"expression": "1d6", "total": 6}},
    "an unknown visibility": {"type": "dice_roll", "data": {"expression": "1d6"}, "visibility": "all"},
}


@pytest.mark.rule("AC1", "AC3", "AC4", "AC7", "EN3")
@BOTH_WAYS
@pytest.mark.parametrize("kind", BAD)
async def test_a_wrong_post_is_refused_and_nobody_is_told(player: Players, kind: str) -> None:
    ann = await player("ann", "gm")
    assert (await refused(ann.request("activity.post", BAD[kind]))).word == (1007, "invalid_data")
    assert [each for each in await feed(ann) if each["type"] != "user_joined"] == []


@pytest.mark.rule("AC8")
@pytest.mark.parametrize("kind", ["user_joined", "user_left"])
async def test_comings_and_goings_are_not_for_clients_to_post(player: Players, kind: str) -> None:
    gm = await player("gm", "gm")
    assert (await refused(post(gm, kind, {}))).word == (1008, "forbidden")


@pytest.mark.rule("AC9")
async def test_texts_are_normal_unicode_without_control_characters(player: Players) -> None:
    ann = await player("ann")
    decomposed = unicodedata.normalize("NFD", "Ünö") + "\n\tx"
    noisy = "a\x00b\x07c\x1bd\x7fe\x85f\x9ag"
    first = await say(ann, decomposed)
    assert first["data"]["text"] == unicodedata.normalize("NFC", decomposed)
    second = await say(ann, noisy)
    assert second["data"]["text"] == "abcdefg"
    markup = "<script>alert(1)</script> &amp; **x**"
    assert (await say(ann, markup))["data"]["text"] == markup
    note = await post(ann, "note_edited", {"noteId": "n", "title": "T\x00itle"})
    assert note["data"]["title"] == "Title"


@pytest.mark.rule("AC3", "AC9")
async def test_a_text_of_nothing_but_control_characters_is_no_text(player: Players) -> None:
    ann = await player("ann")
    assert (await refused(say(ann, "\x00\x01\x02"))).word == (1007, "invalid_data")


# Whispers


@pytest.mark.rule("AC3", "RS5")
async def test_a_whisper_reaches_its_sender_and_those_it_is_for_and_no_one_else_ever(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob", at=1)
    gm = await player("gm", "gm")
    other = await player("other", at=1)
    place = other.cursor
    answer = await say(ann, "the password", to=["bob"])
    assert answer["to"] == ["bob"]
    await say(ann, "aloud")
    for each in (ann, bob):
        await each.event("activity.post", lambda data: data["data"].get("text") == "aloud")
        assert [data["data"]["text"] for data in posted(each, "chat_message")] == ["the password", "aloud"]
        assert len(await feed(each, types=["chat_message"])) == 2
    for each in (gm, other):
        await each.event("activity.post", lambda data: data["data"].get("text") == "aloud")
        assert len(await feed(each, types=["chat_message"])) == 1
    late = await player("other", at=0)
    back = await player("other", at=1, cursor=place)
    await back.event("activity.post", lambda data: data["data"].get("text") == "aloud")
    newcomer = await player("newcomer", "gm")
    for each in (gm, other, late, back, newcomer):
        assert "password" not in json.dumps(each.messages)
    again = await player("bob")
    assert "the password" in json.dumps(again.shown["activity"])


@pytest.mark.rule("AC3")
async def test_a_whisper_may_be_for_several_and_for_somebody_who_is_not_there_yet(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    await say(ann, "for two", to=["bob", "carol"])
    await bob.event("activity.post", of("chat_message"))
    carol = await player("carol", at=1)
    assert "for two" in json.dumps(carol.shown["activity"])


@pytest.mark.rule("AC3")
async def test_whispers_hide_neither_in_counts_nor_in_pages(player: Players) -> None:
    ann = await player("ann")
    other = await player("other")
    for number in range(6):
        await say(ann, f"secret {number}", to=["bob"])
        await say(ann, f"open {number}")
    found = await feed(other, types=["chat_message"], limit=6)
    assert [each["data"]["text"] for each in found] == [f"open {number}" for number in range(6)]


# Dice


@pytest.mark.rule("AC4")
async def test_the_server_rolls_and_tells_every_die(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob", at=1)
    answer = await post(ann, "dice_roll", {"expression": "4d6kh3 + 2", "label": "Strength"})
    data = answer["data"]
    assert data.keys() == {"expression", "label", "total", "text", "dice"}
    assert (data["expression"], data["label"]) == ("4d6kh3 + 2", "Strength")
    assert len(data["dice"]) == 4
    assert all(die.keys() == {"sides", "value", "kept"} for die in data["dice"])
    assert all(die["sides"] == 6 and 1 <= die["value"] <= 6 for die in data["dice"])
    kept = [die["value"] for die in data["dice"] if die["kept"]]
    assert sorted(kept) == sorted(die["value"] for die in data["dice"])[1:]
    assert data["total"] == sum(kept) + 2
    assert str(data["total"]) in data["text"]
    told = await bob.event("activity.post", of("dice_roll"))
    assert told["data"] == answer


@pytest.mark.rule("AC6", "AC4")
@ONE
async def test_the_expressions_that_players_type_are_understood(player: Players) -> None:
    ann = await player("ann")
    for expression, least, most, dice in [
        ("1d20", 1, 20, 1),
        ("d20", 1, 20, 1),
        ("2d6+3", 5, 15, 2),
        ("d%", 1, 100, 1),
        ("(1d4 + 1) * 2", 4, 10, 1),
        ("10 - 1d4", 6, 9, 1),
        ("1d1/2", 0, 1, 1),
        ("4d6k3", 3, 18, 4),
        ("4d6kl1", 1, 6, 4),
        ("4d6dl1", 3, 18, 4),
        ("4d6dh1", 3, 18, 4),
        ("2d20kh1", 1, 20, 2),
        ("8d6mi2", 16, 48, 8),
        ("8d6ma5", 8, 40, 8),
        ("1d20 adv", 1, 20, 2),
        ("1d20 dis", 1, 20, 2),
        ("5", 5, 5, 0),
        ("1000d6", 1_000, 6_000, 1_000),
    ]:
        data = (await roll(ann, expression))["data"]
        assert least <= data["total"] <= most, expression
        assert isinstance(data["total"], int)
        assert len(data["dice"]) == dice, expression
    for expression in ("6d6r1", "6d6rr<3", "6d6ro1", "6d6e6", "6d6!", "1D20 + 2D6"):
        data = (await roll(ann, expression))["data"]
        assert data["dice"], expression


@pytest.mark.rule("AC6")
@BOTH_WAYS
async def test_whatever_else_is_typed_is_refused_quickly(player: Players) -> None:
    ann = await player("ann")
    hostile = [
        "",
        " ",
        "hello",
        "1d",
        "d",
        "1d0",
        "1d-6",
        "1d6.5",
        "1001d6",
        "99999999999999999999d6",
        "500d6+501d6",
        "1/0",
        "1d1/(1d1-1d1)",
        "1d6rr<7",
        "1d1e1",
        "(" * 200,
        "9**9**9",
        "__import__('os')",
        "1d6; drop table",
        "(1d6",
        "1d6)",
        "٣d٦",
        "x" * 201,
    ]
    began = time.monotonic()
    for expression in hostile:
        answer = await refused(roll(ann, expression))
        assert answer.word == (1007, "invalid_data"), expression
    # Odd, but harmless: to be rolled or refused.
    for expression in ("-" * 199 + "1", "1d6" + "+1" * 98, "1d6kh", "1d1!", "1d1rr1", "1d6\x00"):
        with contextlib.suppress(Problem):
            assert isinstance((await roll(ann, expression))["data"]["total"], int)
    assert time.monotonic() - began < 2 * WAIT
    assert (await roll(ann, "1d6"))["data"]["total"]


@pytest.mark.rule("AC5", "RS5")
async def test_a_roll_is_seen_by_whom_it_is_for(player: Players) -> None:
    """By visibility: who is told, and what the roller is answered."""
    ann = await player("ann")
    gm = await player("gm", "gm", at=1)
    bob = await player("bob")
    label: Any = {"type": "dice_roll"}
    for visibility in ("public", "gm", "blind", "self"):
        answer = await ann.request(
            "activity.post",
            {**label, "data": {"expression": "3d1000", "label": visibility}, "visibility": visibility},
        )
        assert ("total" in answer["data"]) == (visibility != "blind")
        if visibility == "blind":
            assert not re.search(r'"(total|dice|value)"', json.dumps(answer))
    await say(ann, "end")
    seen = {}
    for each in (ann, gm, bob):
        await each.event("activity.post", of("chat_message"))
        seen[each.user] = [
            data["data"].get("label") for data in posted(each, "dice_roll") if "total" in data["data"]
        ]
        listed = [
            data["data"].get("label")
            for data in await feed(each, types=["dice_roll"])
            if "total" in data["data"]
        ]
        assert listed == seen[each.user]
    assert seen == {"ann": ["public", "gm", "self"], "gm": ["public", "gm", "blind"], "bob": ["public"]}
    late = await player("carol", at=1)
    assert [each["data"].get("label") for each in late.shown["activity"] if each["type"] == "dice_roll"] == [
        "public"
    ]
    for each in (bob, late):
        assert '"self"' not in json.dumps(each.messages)


@pytest.mark.rule("AC5")
async def test_a_gm_who_comes_later_sees_the_rolls_that_were_for_the_gm(player: Players) -> None:
    ann = await player("ann")
    await roll(ann, "1d6", visibility="blind")
    await roll(ann, "1d6", visibility="gm")
    await roll(ann, "1d6", visibility="self")
    gm = await player("gm", "gm", at=1)
    rolls = [each for each in gm.shown["activity"] if each["type"] == "dice_roll"]
    assert [each.get("visibility") for each in rolls] == ["blind", "gm"]
    assert all("total" in each["data"] for each in rolls)


@pytest.mark.rule("AC4")
@ONE
async def test_dice_are_fair_enough(player: Players) -> None:
    ann = await player("ann")
    data = (await roll(ann, "1000d6"))["data"]
    values = [die["value"] for die in data["dice"]]
    assert set(values) == {1, 2, 3, 4, 5, 6}
    assert all(100 < values.count(value) < 240 for value in range(1, 7))
    assert (await roll(ann, "20d1000"))["data"]["dice"] != (await roll(ann, "20d1000"))["data"]["dice"]


# Reading back


@pytest.mark.rule("AC2")
async def test_the_feed_is_read_in_pages_both_ways(player: Players) -> None:
    ann = await player("ann")
    idents = [(await say(ann, f"line {number}"))["id"] for number in range(12)]
    only: dict[str, Any] = {"types": ["chat_message"]}

    async def page(**query: Any) -> tuple[list[str], bool]:
        answer = await ann.request("activity.list", only | query)
        assert answer.keys() == {"activities", "more"}
        return [each["id"] for each in answer["activities"]], answer["more"]

    assert await page() == (idents, False)
    assert await page(limit=5) == (idents[-5:], True)
    assert await page(limit=12) == (idents, False)
    assert await page(before=idents[7], limit=5) == (idents[2:7], True)
    assert await page(before=idents[2], limit=5) == (idents[:2], False)
    assert await page(after=idents[2], limit=5) == (idents[3:8], True)
    assert await page(after=idents[8], limit=5) == (idents[9:], False)
    assert await page(after=idents[-1]) == ([], False)
    assert await page(before=idents[0]) == ([], False)
    assert await page(after=idents[2], before=idents[6]) == (idents[3:6], False)


@pytest.mark.rule("AC2")
async def test_the_feed_may_be_read_by_types(player: Players) -> None:
    ann = await player("ann")
    await say(ann, "talk")
    await roll(ann, "1d6")
    await post(ann, "note_edited", {"noteId": "n"})
    kinds = [each["type"] for each in await feed(ann, types=["note_edited", "dice_roll"])]
    assert kinds == ["dice_roll", "note_edited"]
    assert await feed(ann, types=["turn_changed"]) == []


@pytest.mark.rule("AC2", "EN3")
@BOTH_WAYS
@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 201},
        {"limit": -1},
        {"limit": "10"},
        {"limit": 1.5},
        {"types": ["talk"]},
        {"types": "chat_message"},
        {"before": 7},
    ],
)
async def test_a_wrong_question_to_the_feed_is_refused(player: Players, query: Any) -> None:
    ann = await player("ann")
    assert (await refused(ann.request("activity.list", query))).word == (1007, "invalid_data")


@pytest.mark.rule("AC2")
@ONE
async def test_at_most_two_hundred_are_read_at_once(player: Players) -> None:
    ann = await player("ann")
    async with asyncio.timeout(3 * WAIT):
        for start in range(0, 210, 70):
            await ann.transmit(
                [
                    {"type": "request", "id": f"r{start + number}", "method": "activity.post",
                     "params": {"type": "chat_message", "data": {"text": f"{start + number}"}}}
                    for number in range(70)
                ]
            )  # fmt: skip
            await ann.wait_for(lambda start=start: len(posted(ann, "chat_message")) >= start + 70)  # type: ignore[misc]
    answer = await ann.request("activity.list", {"types": ["chat_message"], "limit": 200})
    assert answer["more"]
    assert [each["data"]["text"] for each in answer["activities"]] == [
        f"{number}" for number in range(10, 210)
    ]


# What the server writes itself


@pytest.mark.rule("AC8")
async def test_a_coming_is_written_into_the_feed_once(player: Players) -> None:
    watcher = await player("watcher")
    await player("ann", at=1)
    told = await watcher.event(
        "activity.post", lambda data: (data["type"], data["userId"]) == ("user_joined", "ann")
    )
    assert told["data"]["username"] == "Ann"
    await player("ann")
    await player("bob")
    await watcher.event(
        "activity.post", lambda data: (data["type"], data["userId"]) == ("user_joined", "bob")
    )
    joined = [each["userId"] for each in await feed(watcher, types=["user_joined"])]
    assert sorted(joined) == ["ann", "bob", "watcher"]


@pytest.mark.rule("AC8")
async def test_that_the_canvas_was_cleared_is_written_into_the_feed(player: Players) -> None:
    ann = await player("ann")
    gm = await player("gm", "gm", at=1)
    await ann.draw("s")
    await gm.request("canvas.clear", {"scope": "all"})
    told = await ann.event("activity.post", of("map_updated"))
    assert told["data"]["userId"] == "gm"
    assert told["data"]["data"]["mapId"]
    assert len(await feed(ann, types=["map_updated"])) == 1
