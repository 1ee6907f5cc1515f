"""Who is here, what they do and where they point (PR1–PR5)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from roundtable.common.testing.forms import TRANSPORTS, Players, refused
from roundtable.common.testing.players import WAIT, Player
from roundtable.common.testing.system import system

ONE = pytest.mark.transports("websocket-json")


def changes(who: Player, user: str) -> list[dict[str, Any]]:
    """What was told of somebody's presence."""
    return [
        message["data"]
        for message in who.messages
        if message["type"] == "event"
        and message["method"] == "presence.update"
        and message["data"]["userId"] == user
    ]


def places(who: Player) -> dict[str, list[tuple[float, float]]]:
    """All cursors that were told, by user."""
    found: dict[str, list[tuple[float, float]]] = {}
    for message in who.messages:
        if message["type"] == "event" and message["method"] == "presence.cursor":
            for each in message["data"]["cursors"]:
                found.setdefault(each["userId"], []).append((each["x"], each["y"]))
    return found


def points_at(who: Player, user: str, x: float, y: float) -> Callable[[], bool]:
    return lambda: places(who).get(user, [(None, None)])[-1] == (x, y)


def is_of(user: str, status: str = "") -> Callable[[Any], bool]:
    return lambda data: data["userId"] == user and (not status or data["status"] == status)


async def list_of(who: Player) -> dict[str, dict[str, Any]]:
    answer = await who.request("presence.list")
    assert answer.keys() == {"presence"}
    return {each["userId"]: each for each in answer["presence"]}


# Coming


@pytest.mark.rule("PR1", "CO4")
async def test_whoever_comes_is_told_once_however_many_connections_they_have(player: Players) -> None:
    watcher = await player("watcher")
    await player("ann")
    await watcher.event("presence.update", is_of("ann", "online"))
    for number, transport in enumerate(TRANSPORTS):
        await player("ann", transport=transport, at=number % 2)
    await player("bob")
    await watcher.event("presence.update", is_of("bob", "online"))
    assert [each["status"] for each in changes(watcher, "ann")] == ["online"]
    there = await list_of(watcher)
    assert there.keys() == {"watcher", "ann", "bob"}
    assert {each["status"] for each in there.values()} == {"online"}


@pytest.mark.rule("PR1", "CO4", "CO8")
async def test_people_at_all_gateways_and_over_all_transports_see_each_other(everyone: Players) -> None:
    there = [await everyone(name, transport=name, at=number % 2) for number, name in enumerate(TRANSPORTS)]
    for number, each in enumerate(there):
        assert {data["userId"] for data in each.shown["presence"]} == set(list(TRANSPORTS)[: number + 1])
        for later in list(TRANSPORTS)[number + 1 :]:
            await each.event("presence.update", is_of(later, "online"))
        assert (await list_of(each)).keys() == set(TRANSPORTS)


# What one says of oneself


@pytest.mark.rule("PR3", "EN5")
async def test_a_change_is_answered_with_ones_presence_and_told_to_all(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob", at=1)
    drawing = {"type": "drawing", "location": "the bridge"}
    answer = await ann.request("presence.update", {"activity": drawing})
    assert (answer["userId"], answer["status"], answer["activity"]) == ("ann", "online", drawing)
    for each in (ann, bob):
        told = await each.event("presence.update", lambda data: "activity" in data)
        assert told["data"]["activity"] == drawing
    answer = await ann.request("presence.update", {"status": "away"})
    assert (answer["status"], answer["activity"]) == ("away", drawing)
    await bob.event("presence.update", is_of("ann", "away"))
    answer = await ann.request("presence.update", {"activity": None})
    assert (answer["status"], "activity" in answer) == ("away", False)
    answer = await ann.request("presence.update", {"status": "online"})
    assert answer["status"] == "online"
    told = await bob.event("presence.update", is_of("ann", "online"))
    assert "activity" not in told["data"]
    assert (await list_of(bob))["ann"]["status"] == "online"


@pytest.mark.rule("PR3", "EN3")
@pytest.mark.transports("websocket-json", "websocket-msgpack", "sse")
@pytest.mark.parametrize(
    "params",
    [
        {"status": "offline"},
        {"status": "busy"},
        {"status": None},
        {"activity": {"type": "sleeping"}},
        {"activity": {}},
        {"activity": "typing"},
        {"activity": {"type": "typing", "location": 7}},
        {"cursor": {"x": 1, "y": 1}},
        {"userId": "bob", "status": "away"},
    ],
)
async def test_a_wrong_change_is_refused_and_changes_nothing(player: Players, params: Any) -> None:
    ann = await player("ann")
    assert (await refused(ann.request("presence.update", params))).word == (1007, "invalid_data")
    me = (await list_of(ann))["ann"]
    assert (me["status"], "activity" in me) == ("online", False)


@pytest.mark.rule("PR3", "CO8")
async def test_a_newcomer_sees_who_is_away_and_what_they_do(player: Players) -> None:
    ann = await player("ann")
    await ann.request("presence.update", {"status": "away", "activity": {"type": "viewing"}})
    bob = await player("bob", at=1)
    shown = {each["userId"]: each for each in bob.shown["presence"]}
    assert (shown["ann"]["status"], shown["ann"]["activity"]) == ("away", {"type": "viewing"})


# Cursors


@pytest.mark.rule("PR4", "EN4")
async def test_a_cursor_is_shown_to_the_others_at_every_gateway(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    far = await player("far", at=1)
    await ann.tell("presence.cursor", {"x": 12.5, "y": -3})
    for each in (bob, far):
        moved = await each.event("presence.cursor")
        assert moved["data"] == {"cursors": [{"userId": "ann", "x": 12.5, "y": -3}]}
        assert "id" not in moved
    await far.tell("presence.cursor", {"x": 1, "y": 1})
    await ann.wait_for(points_at(ann, "far", 1, 1))
    assert "ann" not in places(ann)


@pytest.mark.rule("PR4")
async def test_a_newcomer_sees_the_last_cursors(player: Players) -> None:
    ann = await player("ann")
    far = await player("far", at=1)
    for number in range(5):
        await ann.tell("presence.cursor", {"x": number, "y": 0})
        await far.tell("presence.cursor", {"x": 0, "y": number})
    await ann.wait_for(points_at(ann, "far", 0, 4))
    await far.wait_for(points_at(far, "ann", 4, 0))
    for gateway in (0, 1):
        late = await player("late", at=gateway)
        shown = {each["userId"]: each for each in late.shown["presence"]}
        assert shown["ann"]["cursor"] == {"x": 4, "y": 0}
        assert shown["far"]["cursor"] == {"x": 0, "y": 4}
        assert "cursor" not in shown["late"]


@pytest.mark.rule("PR4")
@pytest.mark.transports("websocket")
async def test_cursors_that_come_too_fast_are_merged_and_the_last_counts(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    far = await player("far", at=1)
    began, number = time.monotonic(), 0
    while time.monotonic() - began < 0.7:
        for _ in range(10):
            number += 1
            await ann.tell("presence.cursor", {"x": number, "y": 1})
        await ann.request("heartbeat")
    for each in (bob, far):
        await each.wait_for(points_at(each, "ann", number, 1))
        took = time.monotonic() - began
        seen = [x for x, _ in places(each)["ann"]]
        assert seen == sorted(seen)
        assert len(seen) <= 60 * took + 2
    assert number > 60
    assert ann.errors() == []


@pytest.mark.rule("PR4", "EN3")
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"x": 1},
        {"x": "1", "y": 1},
        {"x": 1, "y": None},
        {"x": 1, "y": 1, "z": 1},
        {"x": 1, "y": 1, "userId": "bob"},
        [1, 1],
    ],
)
@pytest.mark.transports("websocket-json", "websocket-msgpack", "sse")
async def test_a_wrong_cursor_is_refused_and_shown_to_nobody(player: Players, params: Any) -> None:
    ann = await player("ann")
    bob = await player("bob")
    await ann.tell("presence.cursor", params)
    await ann.wait_for(lambda: bool(ann.errors()))
    assert ann.errors()[0]["reason"] == "invalid_data"
    await ann.tell("presence.cursor", {"x": 5, "y": 5})
    await bob.wait_for(points_at(bob, "ann", 5, 5))
    assert places(bob) == {"ann": [(5, 5)]}


@pytest.mark.rule("PR5")
async def test_last_seen_is_the_servers_time_of_the_last_sign_of_life(player: Players) -> None:
    before = time.time() * 1000
    ann = await player("ann")
    bob = await player("bob")
    seen = (await list_of(bob))["ann"]["lastSeen"]
    assert before - 1_000 <= seen <= time.time() * 1000 + 1_000
    while time.time() * 1000 < seen + 50:
        await bob.request("heartbeat")
    middle = time.time() * 1000
    await ann.request("heartbeat")
    later = (await list_of(bob))["ann"]["lastSeen"]
    assert middle - 5 <= later <= time.time() * 1000 + 5


# Going: one story, as each part of it takes its time


class Story:
    """What a watcher was told, and when (seconds since the epoch) the things happened that they were told of."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.watcher: Player
        self.late: Player
        self.back: list[Player] = []

    def gone(self, user: str) -> list[float]:
        """When the watcher was told that they left."""
        return [
            message["timestamp"] / 1000
            for message in self.watcher.messages
            if message["type"] == "event"
            and message["method"] == "presence.update"
            and message["data"]["userId"] == user
            and message["data"]["status"] == "offline"
        ]

    def statuses(self, user: str) -> list[str]:
        return [each["status"] for each in changes(self.watcher, user)]


@pytest.fixture(scope="module")
async def story() -> AsyncIterator[Story]:
    """People come and go in every way, at a system that is harmed meanwhile."""
    told = Story()
    async with system(gateways=3) as own:
        players = Players(own, "the-inn", "websocket-json")
        victim, (presence,) = own.of("gateway")[2], own.of("presence")
        watcher = told.watcher = await players("watcher")
        leaving = {name: await players(f"leaver-{name}", transport=name) for name in TRANSPORTS}
        losing = {name: await players(f"loser-{name}", transport=name) for name in TRANSPORTS}
        twice = [await players("twice", at=number) for number in range(2)]
        crashed = [await players(f"victim-{name}", transport=name, at=victim) for name in TRANSPORTS]
        moved = await players("moved", at=victim)
        unlucky = await players("unlucky", at=1)
        ephemeral = await players("ephemeral", at=1)
        await ephemeral.tell("presence.cursor", {"x": 3, "y": 4})
        await watcher.event("presence.cursor")
        everybody = {
            each.user for each in (*leaving.values(), *losing.values(), *twice, *crashed, moved, unlucky)
        }
        await watcher.wait_for(lambda: everybody <= {user for user in everybody if changes(watcher, user)})

        told.began["kill"] = time.time()
        await victim.kill()
        told.back.append(await players("moved", at=0, cursor=moved.cursor))
        await asyncio.gather(*(each.close() for each in (*leaving.values(), twice[1], ephemeral)))
        told.began["leave"] = time.time()
        for each in losing.values():
            each.abort()  # type: ignore[attr-defined]
        for number, (name, each) in enumerate(losing.items()):
            told.back.append(await players(each.user, transport=name, at=number % 2, cursor=each.cursor))
        # Somebody goes while the presence service is down.
        await presence.kill()
        await unlucky.close()
        told.began["unlucky"] = time.time()
        presence.start()
        await presence.ready()
        await watcher.draw("after-the-crash")

        async with asyncio.timeout(30):
            last = {f"leaver-{name}" for name in TRANSPORTS} | {each.user for each in crashed} | {"unlucky"}
            await watcher.wait_for(lambda: all(told.gone(user) for user in last), 30)
        told.late = await players("watcher", at=1)
        yield told
        await players.leave()


@pytest.mark.rule("PR1")
async def test_a_leave_is_told_once_after_a_grace(story: Story) -> None:
    for name in TRANSPORTS:
        (gone,) = story.gone(f"leaver-{name}")
        after = gone - story.began["leave"]
        # Who polls is given ten seconds to come back for more, and then the same grace.
        least, most = (13.5, 18.0) if name.startswith("poll") else (4.0, 8.0)
        assert least <= after <= most, f"{name}: {after}"
        assert story.statuses(f"leaver-{name}") == ["online", "offline"]


@pytest.mark.rule("PR1", "RS2")
async def test_a_reconnect_within_the_grace_shows_nothing(story: Story) -> None:
    for name in TRANSPORTS:
        assert story.statuses(f"loser-{name}") == ["online"]
    assert all(each.welcome["recovered"] for each in story.back)


@pytest.mark.rule("PR1", "CO4")
async def test_one_is_there_while_any_connection_lives(story: Story) -> None:
    assert story.statuses("twice") == ["online"]
    assert (await list_of(story.watcher))["twice"]["status"] == "online"


@pytest.mark.rule("PR2")
async def test_the_people_of_a_gateway_that_died_are_gone_within_fifteen_seconds(story: Story) -> None:
    for name in TRANSPORTS:
        (gone,) = story.gone(f"victim-{name}")
        assert gone - story.began["kill"] <= 15.5
        assert story.statuses(f"victim-{name}") == ["online", "offline"]


@pytest.mark.rule("PR1", "PR2", "CO4")
async def test_who_comes_back_elsewhere_after_their_gateway_died_was_never_gone(story: Story) -> None:
    assert story.statuses("moved") == ["online"]
    assert story.back[0].welcome["recovered"]


@pytest.mark.rule("PR2")
async def test_who_goes_while_the_presence_service_is_down_leaves_no_ghost(story: Story) -> None:
    (gone,) = story.gone("unlucky")
    assert 3.0 <= gone - story.began["unlucky"] <= 12.0
    there = await list_of(story.watcher)
    assert there.keys() == {"watcher", "twice", "moved", *(f"loser-{name}" for name in TRANSPORTS)}


@pytest.mark.rule("PR4", "PR1")
async def test_the_cursor_of_somebody_who_left_is_gone_too(story: Story) -> None:
    assert len(story.gone("ephemeral")) == 1
    assert "ephemeral" not in {each["userId"] for each in story.late.shown["presence"]}


@pytest.mark.rule("PR1", "AC8")
async def test_comings_and_goings_stand_in_the_feed_once(story: Story) -> None:
    async def feed() -> list[tuple[str, str]]:
        answer = await story.watcher.request(
            "activity.list", {"types": ["user_joined", "user_left"], "limit": 200}
        )
        return [(each["type"], each["userId"]) for each in answer["activities"]]

    gone = {"unlucky", "ephemeral", *(f"{who}-{name}" for who in ("leaver", "victim") for name in TRANSPORTS)}
    async with asyncio.timeout(WAIT):
        while {user for kind, user in await feed() if kind == "user_left"} < gone:
            await asyncio.sleep(0.02)
    events = await feed()
    assert len(set(events)) == len(events)
    assert {user for kind, user in events if kind == "user_left"} == gone
    assert {"moved", "twice", "watcher"} <= {user for kind, user in events if kind == "user_joined"}
