"""What must hold of presence after any history, found by Hypothesis.

A `Room` plays the shell and the gateways, with a clock of its own: it lets connections open, move and close, gateways die,
replicas take over from log or snapshot, and people give signs of life. Beside it stand what is really so (`connections`,
`signs`) and what a client knows from what it was told (`shown`).
"""

from __future__ import annotations

from itertools import count

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import Raw

from roundtable.common.schema.log import StoredEvent
from roundtable.common.schema.presence import AwayNoticed, ConnectionOpened, DoingNow, PresenceData
from roundtable.presence.decider import (
    CloseConnection,
    Command,
    DropGateways,
    Fact,
    Limits,
    NoteSigns,
    OpenConnection,
    State,
    UpdatePresence,
    told,
)
from roundtable.presence.service import PresenceDomain

DOMAIN = PresenceDomain(Limits(grace=5, away_after=30, touch_interval=6))
LIMITS = DOMAIN.limits
USERS = st.sampled_from(["ada", "bob", "cleo"])
NAMES = st.sampled_from(["c1", "c2", "c3"])
PLACES = st.integers(0, 2)
ACTIVITIES = st.sampled_from([None, DoingNow("typing"), DoingNow("viewing", "cave")])


def through_the_log(fact: Fact) -> Fact:
    method, data, audience = DOMAIN.record(fact)
    line = msgspec.json.encode(StoredEvent(method, Raw(msgspec.json.encode(data)), 1, audience=audience))
    recalled = DOMAIN.recall(msgspec.json.decode(line, type=StoredEvent))
    assert recalled is not None
    return recalled


def through_a_snapshot(state: State) -> State:
    return DOMAIN.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(DOMAIN.dump(state))))


class Room(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.now = 1_000
        self.numbers = count()
        self.gateways = [f"g{next(self.numbers)}" for _ in range(3)]
        self.live, self.log = DOMAIN.decider.initial(), DOMAIN.decider.initial()
        self.live.hearing.listen(self.now)
        self.connections: dict[tuple[str, str], str] = {}
        self.shown: dict[str, PresenceData] = {}
        self.alone: dict[str, int] = {}
        """Who has no connection, since when."""
        self.signs: dict[str, list[int]] = {}
        self.unreported: dict[str, tuple[int, int]] = {}
        """Signs that a gateway has not told yet: the latest, and when it must tell."""

    def do(self, command: Command) -> list[Fact]:
        twin = through_a_snapshot(self.live)
        twin.hearing.since = self.live.hearing.since
        facts = list(DOMAIN.decider.decide(self.live, command))
        assert list(DOMAIN.decider.decide(twin, command)) == facts, "a restored room decides otherwise"
        for fact in facts:
            self.live = DOMAIN.decider.evolve(self.live, fact)
            self.log = DOMAIN.decider.evolve(self.log, through_the_log(fact))
            self.tell(fact)
        assert list(DOMAIN.decider.decide(self.live, command)) == [], "a repeated command takes effect again"
        return facts

    def tell(self, fact: Fact) -> None:
        match fact:
            case ConnectionOpened(user_id=user, joined=joined):
                assert joined == (user not in self.shown)
            case AwayNoticed(user):
                # What happened in the last interval could not be known yet.
                known = [sign for sign in self.signs[user] if sign < self.now - LIMITS.touch_interval]
                assert max(known) + LIMITS.away_after <= self.now - LIMITS.touch_interval, "away too soon"
            case PresenceData(user, "offline"):
                assert user in self.shown, "the leave of somebody who is not here"
                assert not any(who == user for who, _ in self.connections), "a leave with a live connection"
                del self.shown[user]
            case PresenceData(user, status):
                assert user in self.shown or status == "online", "somebody comes who is not online"
                self.shown[user] = fact
            case _:
                pass

    def settle(self) -> None:
        """What the shell does after each batch, and when its alarm rings."""
        while commands := DOMAIN.due(self.live, self.now)[0]:
            for command in commands:
                assert self.do(command) != [], "due, but without effect"

    def sign(self, user: str) -> None:
        self.signs.setdefault(user, []).append(self.now)

    def lost(self, users: set[str]) -> None:
        for user in users:
            if not any(who == user for who, _ in self.connections):
                self.alone.setdefault(user, self.now)

    @rule(user=USERS, name=NAMES, place=PLACES)
    def open(self, user: str, name: str, place: int) -> None:
        self.sign(user)
        here = user in self.shown
        self.connections[user, name] = self.gateways[place]
        self.alone.pop(user, None)
        facts = self.do(OpenConnection(user, user, name, self.gateways[place], "poll", self.now))
        assert any(isinstance(fact, PresenceData) for fact in facts) == (not here)

    @precondition(lambda self: self.connections)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        user, name = data.draw(st.sampled_from(sorted(self.connections)))
        gateway = self.connections.pop((user, name))
        self.sign(user)
        self.lost({user})
        assert len(self.do(CloseConnection(user, name, gateway, self.now))) == 1

    @rule(user=USERS, name=NAMES, place=PLACES)
    def close_too_late(self, user: str, name: str, place: int) -> None:
        """The connection has moved, or ended, and its old gateway says so only now."""
        if self.connections.get((user, name)) != self.gateways[place]:
            assert self.do(CloseConnection(user, name, self.gateways[place], self.now)) == []

    @rule(place=PLACES)
    def die(self, place: int) -> None:
        dead, self.gateways[place] = self.gateways[place], f"g{next(self.numbers)}"
        gone = {key for key, gateway in self.connections.items() if gateway == dead}
        for key in gone:
            del self.connections[key]
        self.do(DropGateways(frozenset({dead, "g-unknown"}), self.now))
        for user in {user for user, _ in gone}:
            if not any(who == user for who, _ in self.connections):
                assert user not in self.shown, "a dead gateway's people are still shown"

    @rule(user=USERS, status=st.sampled_from(["online", "away"]), activity=ACTIVITIES)
    def update(self, user: str, status: str, activity: DoingNow | None) -> None:
        self.sign(user)
        self.do(msgspec.convert({"user_id": user, "at": self.now, "status": status}, UpdatePresence))
        self.do(UpdatePresence(user, self.now, activity=activity))
        if user in self.shown:
            assert self.shown[user].status == status
            assert self.shown[user].activity == (activity or msgspec.UNSET)

    @precondition(lambda self: self.connections)
    @rule(data=st.data())
    def show_life(self, data: st.DataObject) -> None:
        """Its gateway tells it later, in time."""
        user = data.draw(st.sampled_from(sorted({user for user, _ in self.connections})))
        self.sign(user)
        deadline = self.unreported.get(user, (0, self.now + LIMITS.touch_interval))[1]
        self.unreported[user] = (self.now, deadline)

    def report(self, user: str) -> None:
        sign, _ = self.unreported.pop(user)
        was = self.shown.get(user)
        facts = self.do(NoteSigns({user: sign}, self.now))
        assert facts == [] or (was is not None and was.status == "away")

    @rule(length=st.sampled_from([1, 2, 4, 5, 9, 37, 80]))
    def wait(self, length: int) -> None:
        """Time passes, and alarms ring when they are due; reports come in time."""
        until = self.now + length
        while True:
            wake = DOMAIN.due(self.live, self.now)[1]
            reports = [(when, user) for user, (_, when) in self.unreported.items()]
            events = [(when, "") for when in [wake] if when is not None] + reports
            when, user = min(events, default=(until + 1, ""))
            if when > until:
                break
            self.now = max(self.now, when)
            if user:
                self.report(user)
            self.settle()
        self.now = until
        self.settle()

    @rule(snapshot=st.booleans())
    def take_over(self, snapshot: bool) -> None:
        """Another replica goes on with what log or snapshot hold."""
        self.live = through_a_snapshot(self.log if not snapshot else self.live)
        self.live.hearing.listen(self.now)
        self.settle()

    @invariant()
    def the_log_tells_the_same_story(self) -> None:
        assert (self.live.leaving, self.live.gateways) == (self.log.leaving, self.log.gateways)
        assert list(self.live.users.items()) == list(self.log.users.items())

    @invariant()
    def a_snapshot_is_the_room(self) -> None:
        assert DOMAIN.dump(through_a_snapshot(self.live)) == DOMAIN.dump(self.live)

    @invariant()
    def the_state_is_sound(self) -> None:
        users = self.live.users
        assert {user for user in users if not users[user].connections} == set(self.live.leaving)
        assert sum(self.live.gateways.values()) == sum(len(user.connections) for user in users.values())
        held = {(user, name): c.gateway for user in users for name, c in users[user].connections.items()}
        assert held == self.connections
        assert all(not user.auto_away or user.status == "away" for user in users.values())
        assert self.live.hearing.heard.keys() <= users.keys()
        assert DOMAIN.occupied(self.live) == bool(users)

    @invariant()
    def clients_know_who_is_here(self) -> None:
        assert self.shown.keys() == self.live.users.keys()
        for user, shown in self.shown.items():
            now = told(self.live, user)
            assert (now.status, now.activity, now.username) == (shown.status, shown.activity, shown.username)
            assert now.last_seen <= self.now

    @invariant()
    def nobody_stays_online_in_silence(self) -> None:
        since = self.live.hearing.since
        assert since is not None
        for user, shown in self.shown.items():
            if shown.status == "online" and user not in self.alone:
                assert self.now < max(self.live.last_seen(user), since) + LIMITS.silence

    @invariant()
    def nobody_with_a_connection_is_offline(self) -> None:
        assert {user for user, _ in self.connections} <= self.shown.keys()

    @invariant()
    def nobody_without_one_is_shown_longer_than_the_grace(self) -> None:
        for user, since in self.alone.items():
            assert user not in self.shown or self.now < since + LIMITS.grace


@pytest.mark.rule("PR1", "PR2", "PR3", "PR5")
def test_whatever_happens_joins_and_leaves_are_told_once_and_nobody_is_lost_or_haunts() -> None:
    run_state_machine_as_test(Room, settings=settings(max_examples=250, stateful_step_count=40))
