"""Who is in a room: given these facts, when this is asked for, then these facts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import UNSET

from roundtable.common.schema.presence import (
    AwayNoticed,
    ConnectionClosed,
    ConnectionOpened,
    DoingNow,
    PresenceData,
)
from roundtable.common.testing.scenario import Scenario
from roundtable.presence import decider
from roundtable.presence.decider import (
    DECIDER,
    CloseConnection,
    Command,
    DropGateways,
    Fact,
    Limits,
    NoteSigns,
    OpenConnection,
    PassTime,
    State,
    UpdatePresence,
    due,
    told,
)

LIMITS = Limits(touch_interval=60_000)
DRAWING = DoingNow("drawing", "the cave")


def scenario(limits: Limits = LIMITS) -> Scenario[State, Command, Fact]:
    return Scenario(decider.decider(limits))


def opening(connection: str = "c1", gateway: str = "g1", *, user: str = "ada", at: int = 0) -> OpenConnection:
    return OpenConnection(user, user.title(), connection, gateway, "websocket", at)


def opened(
    connection: str = "c1", gateway: str = "g1", *, user: str = "ada", at: int = 0, joined: bool = False
) -> ConnectionOpened:
    return ConnectionOpened(connection, user, user.title(), gateway, "websocket", at, joined)


def closing(
    connection: str = "c1", gateway: str = "g1", *, user: str = "ada", at: int = 0
) -> CloseConnection:
    return CloseConnection(user, connection, gateway, at)


def online(user: str = "ada", at: int = 0, activity: DoingNow | None = None) -> PresenceData:
    return PresenceData(user, "online", at, user.title(), activity or UNSET)


def away(user: str = "ada", at: int = 0) -> PresenceData:
    return PresenceData(user, "away", at, user.title())


def offline(user: str = "ada", at: int = 0) -> PresenceData:
    return PresenceData(user, "offline", at, user.title())


def here(*users: str) -> Scenario[State, Command, Fact]:
    """These have been online since 0, each with connection c1 at g1, and all their signs of life come to us."""
    room = scenario()
    for user in users or ("ada",):
        room.after(opening(user=user))
    room.state.hearing.listen(0)
    return room


def waiting(room: Scenario[State, Command, Fact], now: int) -> tuple[Sequence[Command], int | None]:
    """What is due, and when to ask again."""
    return due(room.state, now, LIMITS)


@pytest.mark.rule("PR1")
def test_the_first_connection_is_told_as_a_join() -> None:
    scenario().when(opening(at=7)).then(opened(at=7, joined=True), online(at=7))


@pytest.mark.rule("PR1")
def test_a_second_connection_is_told_to_nobody() -> None:
    here().when(opening("c2", "g2", at=1)).then(opened("c2", "g2", at=1))


@pytest.mark.rule("PR1")
def test_an_identical_open_is_no_fact_but_a_sign_of_life() -> None:
    room = here().when(opening(at=9)).then_nothing()
    assert told(room.state, "ada") == online(at=9)


@pytest.mark.rule("PR1")
def test_a_connection_whose_polls_move_to_another_gateway_is_told_to_nobody() -> None:
    room = here().when(opening("c1", "g2", at=1)).then(opened("c1", "g2", at=1))
    assert room.state.gateways == {"g2": 1}


def test_a_name_that_has_changed_is_told() -> None:
    renamed = OpenConnection("ada", "Countess", "c2", "g1", "sse", 3)
    here().when(renamed).then(
        ConnectionOpened("c2", "ada", "Countess", "g1", "sse", 3),
        PresenceData("ada", "online", 3, "Countess"),
    )


@pytest.mark.rule("PR1")
def test_the_end_of_one_of_two_connections_is_told_to_nobody() -> None:
    room = here().after(opening("c2")).when(closing("c1", at=5)).then(ConnectionClosed("c1", "ada", 5))
    assert waiting(room, 60_000)[0] == ()


@pytest.mark.rule("PR1")
def test_the_leave_is_told_once_and_after_the_grace() -> None:
    room = here().when(closing(at=1_000)).then(ConnectionClosed("c1", "ada", 1_000))
    assert waiting(room, 5_999) == ((), 6_000)
    assert waiting(room, 6_000) == ((PassTime(6_000),), 6_000)
    room.when(PassTime(5_999)).then_nothing()
    room.when(PassTime(6_000)).then(offline(at=1_000))
    room.when(PassTime(6_001)).then_nothing()
    assert room.state.users == {}
    assert waiting(room, 6_002) == ((), None)


@pytest.mark.rule("PR1")
@pytest.mark.parametrize("at", [1_001, 5_999])
def test_a_reconnect_within_the_grace_shows_nothing_to_anybody(at: int) -> None:
    room = here().after(closing(at=1_000))
    room.when(opening("c2", "g2", at=at)).then(opened("c2", "g2", at=at))
    room.when(PassTime(60_000)).then_nothing()


@pytest.mark.rule("PR1")
def test_who_was_away_is_still_away_after_a_reconnect_within_the_grace() -> None:
    room = here().after(UpdatePresence("ada", 1, status="away"), closing(at=2))
    room.when(opening("c2", at=3)).then(opened("c2", at=3))
    assert told(room.state, "ada") == away(at=3)


@pytest.mark.rule("PR1")
def test_the_end_of_a_connection_that_has_moved_or_is_unknown_changes_nothing() -> None:
    room = here().after(opening("c1", "g2"))
    for unheard in (closing("c1", "g1"), closing("c9", "g2"), closing("c1", "g2", user="bob")):
        room.when(unheard).then_nothing()


@pytest.mark.rule("PR1", "PR5")
def test_somebody_who_comes_back_after_the_leave_joins_again() -> None:
    room = here().after(closing(at=0), PassTime(5_000))
    room.when(opening("c2", at=9_000)).then(opened("c2", at=9_000, joined=True), online(at=9_000))


@pytest.mark.rule("PR2")
def test_a_dead_gateway_takes_its_people_offline_at_once() -> None:
    room = here("ada", "bob", "cleo").after(opening("c2", "g2", user="bob"), closing(user="cleo", at=10))
    room.when(DropGateways(frozenset({"g1"}), 20)).then(ConnectionClosed("c1", "bob", 0), offline("ada"))
    assert room.state.gateways == {"g2": 1}
    room.when(DropGateways(frozenset({"g1"}), 21)).then_nothing()
    room.when(PassTime(5_010)).then(offline("cleo", 10))


@pytest.mark.rule("PR2")
def test_a_death_in_a_large_room_is_told_in_several_messages_that_the_log_can_hold() -> None:
    room = scenario()
    for number in range(2_500):
        room.after(opening(user=f"u{number}"))
    drop, sizes = DropGateways(frozenset({"g1"}), 1), []
    while room.state.gateways:
        facts = room.when(drop).events
        sizes.append(len(facts))
    assert sizes == [1_000, 1_000, 500]
    assert room.state.users == {}


@pytest.mark.rule("PR3")
def test_away_by_the_client_lasts_until_the_client_ends_it() -> None:
    room = here().when(UpdatePresence("ada", 5, status="away")).then(away(at=5))
    room.when(NoteSigns({"ada": 9}, 9)).then_nothing()
    room.when(UpdatePresence("ada", 10, activity=DRAWING)).then(
        PresenceData("ada", "away", 10, "Ada", DRAWING)
    )
    room.when(UpdatePresence("ada", 11, status="online")).then(online(at=11, activity=DRAWING))


@pytest.mark.rule("PR3")
def test_who_was_silent_for_five_minutes_is_away_by_itself() -> None:
    room = here("ada", "bob").after(NoteSigns({"bob": 200_000}, 220_000))
    silence = LIMITS.away_after + LIMITS.touch_interval
    assert waiting(room, silence - 1) == ((), silence)
    assert waiting(room, silence) == ((PassTime(silence),), silence)
    room.when(PassTime(silence - 1)).then_nothing()
    room.when(PassTime(silence)).then(AwayNoticed("ada"), away())
    assert waiting(room, silence) == ((), 200_000 + silence)


@pytest.mark.rule("PR3")
@pytest.mark.parametrize(
    "sign",
    [
        NoteSigns({"ada": 400_000}, 400_000),
        UpdatePresence("ada", 400_000),
        UpdatePresence("ada", 400_000, status="online"),
    ],
)
def test_a_sign_of_life_ends_an_away_that_came_by_itself(sign: Command) -> None:
    room = here().after(PassTime(360_000))
    room.when(sign).then(online(at=400_000))
    assert waiting(room, 400_000) == ((), 760_000)


@pytest.mark.rule("PR3")
def test_a_sign_of_life_from_before_the_away_does_not_end_it() -> None:
    here().after(NoteSigns({"ada": 50}, 50), PassTime(360_050)).when(
        NoteSigns({"ada": 50}, 360_051)
    ).then_nothing()


@pytest.mark.rule("PR3")
def test_an_away_that_came_by_itself_becomes_meant_when_the_client_says_so() -> None:
    room = (
        here()
        .after(PassTime(360_000))
        .when(UpdatePresence("ada", 400_000, status="away"))
        .then(away(at=400_000))
    )
    room.when(UpdatePresence("ada", 400_001, status="away")).then_nothing()
    room.when(NoteSigns({"ada": 400_002}, 400_002)).then_nothing()


@pytest.mark.rule("PR3")
def test_a_replica_that_does_not_hear_the_signs_of_life_declares_nobody_away() -> None:
    room = here()
    room.state.hearing.deafen()
    assert waiting(room, 10**9) == ((), None)
    room.when(PassTime(10**9)).then_nothing()


@pytest.mark.rule("PR3")
def test_a_replica_that_has_just_taken_over_counts_silence_from_then() -> None:
    room = here()
    room.state.hearing.listen(300_000)
    assert waiting(room, 360_000) == ((), 660_000)
    room.when(PassTime(659_999)).then_nothing()
    room.when(PassTime(660_000)).then(AwayNoticed("ada"), away())


@pytest.mark.rule("PR3")
def test_who_is_away_or_leaving_is_not_declared_away() -> None:
    room = here("ada", "bob").after(UpdatePresence("ada", 1, status="away"), closing(user="bob", at=359_000))
    room.when(PassTime(360_000)).then_nothing()
    # Even if the clock rings far too late: Bob has left, and that is all there is to tell of him.
    room.when(PassTime(9_000_000)).then(offline("bob", 359_000))


def test_an_update_that_changes_nothing_is_no_fact() -> None:
    room = here().after(UpdatePresence("ada", 1, activity=DRAWING))
    for update in (
        UpdatePresence("ada", 2),
        UpdatePresence("ada", 3, status="online"),
        UpdatePresence("ada", 4, activity=DRAWING),
    ):
        room.when(update).then_nothing()
    assert told(room.state, "ada") == online(at=4, activity=DRAWING)


def test_an_activity_stays_until_it_is_changed_or_ended() -> None:
    room = here().when(UpdatePresence("ada", 1, activity=DRAWING)).then(online(at=1, activity=DRAWING))
    room.when(UpdatePresence("ada", 2, status="away")).then(PresenceData("ada", "away", 2, "Ada", DRAWING))
    room.when(UpdatePresence("ada", 3, activity=None)).then(away(at=3))


@pytest.mark.rule("PR1")
def test_an_update_without_a_connection_shows_nobody() -> None:
    scenario().when(UpdatePresence("ada", 1, status="away")).then_nothing()


@pytest.mark.rule("PR5")
def test_last_seen_is_the_latest_of_opens_updates_signs_and_ends_and_of_no_future() -> None:
    room = here()
    seen = []
    for command in (
        opening("c2", at=10),
        UpdatePresence("ada", 20),
        NoteSigns({"ada": 30, "nobody": 31}, 40),
        NoteSigns({"ada": 25}, 41),
        NoteSigns({"ada": 99}, 50),
        closing("c2", at=60),
    ):
        room.after(command)
        seen.append(told(room.state, "ada").last_seen)
    assert seen == [10, 20, 30, 30, 50, 60]
    assert "nobody" not in room.state.hearing.heard


@pytest.mark.rule("PR5")
def test_the_death_of_a_gateway_is_no_sign_of_life() -> None:
    room = here().after(NoteSigns({"ada": 30}, 30), opening("c2", "g2", at=20))
    room.after(DropGateways(frozenset({"g1"}), 90))
    assert told(room.state, "ada").last_seen == 30
    room.when(DropGateways(frozenset({"g2"}), 95)).then(offline(at=30))


def test_a_full_room_takes_nobody_else_but_lets_its_people_reconnect() -> None:
    room = scenario(Limits(users=2, connections=3)).after(opening(), opening(user="bob"))
    room.when(opening(user="cleo")).then_refused("overloaded", "2 people")
    room.after(opening("c2"))
    room.when(opening("c3")).then_refused("overloaded", "3 connections")
    room.when(opening("c2", "g2")).then(opened("c2", "g2"))


def test_facts_about_what_a_log_no_longer_tells_are_folded_as_far_as_they_go() -> None:
    room = Scenario(DECIDER).given(
        ConnectionClosed("c1", "ada", 1),
        AwayNoticed("ada"),
        offline("bob"),
        online("cleo", 5),
        opened("c1", user="dan"),
    )
    assert set(room.state.users) == {"cleo", "dan"}
    # Nothing says that Cleo has a connection, so she leaves.
    room.when(PassTime(5_005)).then(offline("cleo", 5))


@pytest.mark.rule("PR1", "PR3")
def test_what_is_due_for_many_at_once_comes_in_several_messages() -> None:
    room = scenario()
    for number in range(1_200):
        room.after(opening(user=f"u{number}"))
        if number % 2:
            room.after(closing(user=f"u{number}", at=355_000))
    room.state.hearing.listen(0)
    sizes = []
    while (commands := waiting(room, 360_000)[0]) != ():
        sizes.append(len(room.when(commands[0]).events))
    assert sizes == [1_600, 200]
    assert {user.status for user in room.state.users.values()} == {"away"}


def test_looking_for_silence_does_not_mean_looking_at_everybody_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = 0

    def silent(state: State, limits: Limits) -> list[tuple[str, int]]:
        nonlocal looked
        looked += 1
        return [(user_id, limits.silence) for user_id in state.users]

    monkeypatch.setattr(decider, "_silent", silent)
    room = here("ada", "bob")
    for now in range(0, 300_000, 100):
        waiting(room, now)
    assert looked == 1
