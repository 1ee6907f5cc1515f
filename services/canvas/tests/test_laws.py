"""What must hold of a canvas after any history, found by Hypothesis.

A `Table` runs every command on three states at once: the live one, one folded from the log's JSON alone, and one that
went through a snapshot. Besides, a client folds what it is told, and a model written for plainness alone says what the
facts should have been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from roundtable.canvas import projection
from roundtable.canvas.decider import Clear, Command, Draw, Event, Limits, Redo, State, Undo, decider
from roundtable.common.schema.basics import Point, Role
from roundtable.common.schema.canvas import Cleared, Drawn, Redone, StoredOperation, Undone
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import StoredEvent

ROLES: dict[str, Role] = {"ada": "player", "bob": "player", "cleo": "gm", "dan": "gm", "eve": "spectator"}
USERS = st.sampled_from(sorted(ROLES))
TIGHT = Limits(visible=6, visible_bytes=1_000, visible_ids=40, depth=4, users=2)


class Client:
    """Knows of the canvas only what the wire tells, and does with it what the contract says."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.visible: set[str] = set()

    def told(self, method: str, data: Any) -> None:
        match method:
            case "canvas.draw":
                ids = [operation["id"] for operation in data["operations"]]
                self.order = [known for known in self.order if known not in ids] + ids
                self.visible |= set(ids)
            case "canvas.clear":
                self.visible -= set(data["cleared"])
            case "canvas.undo":
                self.visible = self.visible - set(data["operations"]) | set(data["restored"])
            case "canvas.redo":
                self.visible = self.visible - set(data["hidden"]) | set(data["operations"])
            case _:
                raise AssertionError(method)

    @property
    def canvas(self) -> list[str]:
        return [id_ for id_ in self.order if id_ in self.visible]


class Drawing:
    """The model's operation."""

    def __init__(self, id_: str, user: str) -> None:
        self.id, self.user, self.undone, self.gone = id_, user, False, False
        self.clears: set[int] = set()

    @property
    def shows(self) -> bool:
        return not self.gone and not self.undone and not self.clears


class Model:
    """The same without limits: scans everything each time and never lets go of anything."""

    def __init__(self) -> None:
        self.drawings: list[Drawing] = []
        self.stacks: dict[str, tuple[list[tuple[int, list[Drawing]]], list[tuple[int, list[Drawing]]]]] = {}
        self.clears = count(1)

    def expected(self, command: Command) -> Event | str | None:
        """The fact, None, or the reason of a refusal; and it has happened."""
        before = {drawing.id for drawing in self.drawings if drawing.shows}
        role = ROLES[command.user]
        match command:
            case _ if role == "spectator":
                return "forbidden"
            case Draw():
                if any(operation.user_id != command.user for operation in command.operations):
                    return "forbidden"
                ids = [operation.id for operation in command.operations]
                if len({*ids}) < len(ids) or any(not one.gone and one.id in ids for one in self.drawings):
                    return "invalid_data"
                drawings = [Drawing(id_, command.user) for id_ in ids]
                self.done(command.user, 0, drawings)
                self.drawings += drawings
                return Drawn(command.operations)
            case Clear():
                if command.scope == "all" and role != "gm":
                    return "forbidden"
                everything = command.scope == "all"
                hidden = [
                    one for one in self.drawings if one.shows and (everything or one.user == command.user)
                ]
                if not hidden:
                    return None
                number = next(self.clears)
                self.done(command.user, number, hidden)
                for one in hidden:
                    one.clears.add(number)
                return Cleared(command.scope, command.user, tuple(one.id for one in hidden))
            case Undo() | Redo():
                if command.target != command.user and role != "gm":
                    return "forbidden"
                undo, redo = self.stacks.get(command.target, ([], []))
                here, there = (undo, redo) if isinstance(command, Undo) else (redo, undo)
                while here and all(one.gone for one in here[-1][1]):
                    here.pop()
                if not here:
                    return None
                number, touched = here.pop()
                there.append((number, touched))
                for one in touched:
                    if number:
                        one.clears ^= {number}
                    else:
                        one.undone = isinstance(command, Undo)
                after = {drawing.id for drawing in self.drawings if drawing.shows}
                living = tuple(one.id for one in touched if not one.gone)
                shown = tuple(id_ for id_ in living if id_ in after - before)
                if isinstance(command, Redo):
                    return Redone(
                        command.target, shown, tuple(id_ for id_ in living if id_ in before - after)
                    )
                return Undone(command.target, () if number else living, shown)
        raise AssertionError

    def done(self, user: str, number: int, drawings: list[Drawing]) -> None:
        undo, redo = self.stacks.setdefault(user, ([], []))
        for old, lost in redo:
            for one in lost if not old else ():
                one.gone = True
        redo.clear()
        undo.append((number, drawings))


class Table:
    def __init__(self, limits: Limits, model: Model | None) -> None:
        self.limits = limits
        self.decider = decider(limits)
        self.live, self.replayed, self.restored = (self.decider.initial() for _ in range(3))
        self.client = Client()
        self.model = model
        self.story: list[tuple[list[str], Event]] = []
        """Each fact, with the canvas that clients see after it."""

    def do(self, command: Command) -> Event | str | None:
        """The fact that it caused, if any, or the reason of its refusal."""
        results = [self._decide(state, command) for state in (self.live, self.replayed, self.restored)]
        assert results[0] == results[1] == results[2]
        result = results[0]
        if self.model is not None:
            assert result == self.model.expected(command)
        if result is None or isinstance(result, str):
            return result
        told = projection.record(result)
        stored = StoredEvent(told.method, msgspec.Raw(msgspec.json.encode(told.data)), 0)
        recalled = projection.recall(stored)
        assert recalled == result
        self.live = self.decider.evolve(self.live, result)
        self.replayed = self.decider.evolve(self.replayed, recalled)
        self.restored = self.decider.evolve(self.restored, result)
        self.client.told(told.method, msgspec.json.decode(stored.data))
        self.story.append((self.client.canvas, result))
        return result

    def _decide(self, state: State, command: Command) -> Event | str | None:
        try:
            events = self.decider.decide(state, command)
        except Refusal as refusal:
            return refusal.reason
        assert len(events) <= 1
        return events[0] if events else None

    def restart(self) -> None:
        packed = msgspec.msgpack.encode(projection.dump(self.restored))
        self.restored = projection.restore(msgspec.msgpack.decode(packed))
        assert projection.dump(self.restored) == projection.dump(self.live)

    def look(self) -> bytes:
        return bytes(projection.canvas(self.live).operations)

    def check(self) -> None:
        state, limits = self.live, self.limits
        assert [operation["id"] for operation in msgspec.json.decode(self.look())] == self.client.canvas
        for other in (self.replayed, self.restored):
            assert projection.canvas(other) == projection.canvas(state)
            assert inside(other) == inside(state)
        # What is seen is what nothing keeps from it, and all else may yet be seen.
        assert state.visible == {id_: kept for id_, kept in state.operations.items() if kept.free}
        held = {
            id(kept)
            for stacks in state.stacks.values()
            for step in (
                *(step for step in stacks.undo if step.clear),
                *(step for step in stacks.redo if not step.clear),
            )
            for kept in step.operations
        }
        assert all(kept.free or id(kept) in held for kept in state.operations.values())
        # Nothing is counted wrong, nothing grows without bound.
        assert state.kept_bytes == sum(len(kept.json) for kept in state.operations.values())
        assert state.visible_bytes == sum(len(kept.json) for kept in state.visible.values())
        assert state.visible_ids == sum(len(msgspec.json.encode(id_)) + 1 for id_ in state.visible)
        assert len(state.visible) <= limits.visible
        assert state.visible_bytes <= limits.visible_bytes
        assert state.visible_ids <= limits.visible_ids
        assert len(state.operations) <= limits.kept
        assert state.kept_bytes <= limits.kept_bytes
        assert len(state.stacks) <= limits.users
        assert all(0 < len(one.undo) + len(one.redo) <= limits.depth for one in state.stacks.values())


def inside(state: State) -> list[tuple[str, str, bytes, bool, int]]:
    """What decides on the future, as it is counted and not as it is dumped."""
    return [(kept.id, kept.user, kept.json, kept.undone, kept.clears) for kept in state.operations.values()]


class Play(RuleBasedStateMachine):
    """People at one table, each doing what may be done there, and what may not."""

    limits = Limits()
    with_model = True

    @initialize()
    def sit_down(self) -> None:
        self.table = Table(self.limits, Model() if self.with_model else None)
        self.fresh = count()

    @rule(user=USERS, number=st.integers(1, 4))
    def draw(self, user: str, number: int) -> None:
        self.table.do(
            Draw(user, ROLES[user], tuple(line(f"{next(self.fresh)}", user) for _ in range(number)))
        )

    @rule(user=USERS, ids=st.lists(st.sampled_from(["x", "y", '"', "é\0"]), min_size=1, max_size=3))
    def draw_with_ids_of_old(self, user: str, ids: list[str]) -> None:
        self.table.do(Draw(user, ROLES[user], tuple(line(id_, user) for id_ in ids)))

    @rule(user=USERS, scope=st.sampled_from(["all", "mine"]))
    def clear(self, user: str, scope: Any) -> None:
        self.table.do(Clear(user, ROLES[user], scope))

    @rule(user=USERS, kind=st.sampled_from([Undo, Redo]), times=st.integers(1, 3))
    def undo_or_redo(self, user: str, kind: Callable[[str, Role, str], Command], times: int) -> None:
        for _ in range(times):
            self.table.do(kind(user, ROLES[user], user))

    @rule(user=USERS, whose=USERS, kind=st.sampled_from([Undo, Redo]))
    def undo_or_redo_anothers(self, user: str, whose: str, kind: Callable[[str, Role, str], Command]) -> None:
        self.table.do(kind(user, ROLES[user], whose))

    @rule(user=USERS, times=st.integers(1, 6))
    def undo_and_redo_as_often(self, user: str, times: int) -> None:
        there_and_back(self.table, user, times)

    @rule()
    def restart(self) -> None:
        self.table.restart()

    @invariant()
    def all_agree(self) -> None:
        if hasattr(self, "table"):
            self.table.check()

    def teardown(self) -> None:
        self.table.restart()


class TightPlay(Play):
    """The same where every bound is met all the time. The model knows none, so it is left out."""

    limits = TIGHT
    with_model = False


def line(id_: str, user: str) -> StoredOperation:
    return StoredOperation("draw", "pen", (Point(0.5, len(id_) * 1.0),), "#abc", 3.0, user, id_)


def there_and_back(table: Table, user: str, times: int) -> None:
    role: Role = "gm"  # of whoever asks; it is the target's stacks that matter
    before = table.look()
    undone = sum(isinstance(one, Undone) for one in [table.do(Undo("dan", role, user)) for _ in range(times)])
    back = [table.do(Redo("dan", role, user)) for _ in range(undone)]
    assert all(isinstance(one, Redone) for one in back)
    assert table.look() == before


@pytest.mark.rule("CV1", "CV2", "CV3", "AU7", "EN5")
def test_clients_replays_snapshots_and_the_model_agree_after_any_history() -> None:
    run_state_machine_as_test(Play, settings=settings(max_examples=150, stateful_step_count=50))


@pytest.mark.rule("CV1", "CV2")
def test_clients_replays_and_snapshots_agree_where_every_bound_is_met() -> None:
    run_state_machine_as_test(TightPlay, settings=settings(max_examples=150, stateful_step_count=60))


def commands() -> st.SearchStrategy[list[tuple[str, str, str]]]:
    """What is done, by whom, and to whose stacks."""
    return st.lists(
        st.tuples(st.sampled_from(["draw", "mine", "all", "undo", "redo"]), USERS, USERS), max_size=40
    )


def played(history: Sequence[tuple[str, str, str]], limits: Limits | None = None) -> Table:
    table = Table(limits or Limits(), None if limits else Model())
    for number, (what, user, target) in enumerate(history):
        match what:
            case "draw":
                table.do(Draw(user, ROLES[user], (line(f"{number}.0", user), line(f"{number}.1", user))))
            case "mine" | "all":
                table.do(Clear(user, ROLES[user], "mine" if what == "mine" else "all"))
            case "undo":
                table.do(Undo(user, ROLES[user], target))
            case _:
                table.do(Redo(user, ROLES[user], target))
    return table


@pytest.mark.rule("CV1")
@settings(max_examples=100)
@given(history=commands(), user=USERS, times=st.integers(1, 40))
def test_undo_n_then_redo_n_gives_back_the_same_canvas_after_any_history(
    history: list[tuple[str, str, str]], user: str, times: int
) -> None:
    table = played(history)
    there_and_back(table, user, times)
    table.check()


@pytest.mark.rule("CV1")
@settings(max_examples=100)
@given(history=commands())
def test_when_everybody_undoes_everything_the_canvas_is_empty_and_redo_brings_it_back_for_each(
    history: list[tuple[str, str, str]],
) -> None:
    table = played(history)
    before = table.look()
    done = []
    for user in ROLES:
        while table.do(Undo("dan", "gm", user)) is not None:
            done.append(user)
    assert table.look() == b"[]"
    for user in done:
        assert isinstance(table.do(Redo("dan", "gm", user)), Redone)
    # Everything that took effect before took effect again, and the order of it between users makes no difference.
    assert table.look() == before


@settings(max_examples=150)
@given(history=commands(), decided=st.sampled_from([Limits(), TIGHT]))
def test_facts_that_were_decided_under_other_limits_show_nothing_that_clients_do_not_see(
    history: list[tuple[str, str, str]], decided: Limits
) -> None:
    folding = decider(TIGHT if decided != TIGHT else Limits())
    state = folding.initial()
    for client, event in played(history, decided).story:
        state = folding.evolve(state, event)
        state = projection.restore(projection.dump(state))
        told = [one["id"] for one in msgspec.json.decode(bytes(projection.canvas(state).operations))]
        assert told == [id_ for id_ in client if id_ in state.operations]


@settings(max_examples=60)
@given(history=commands())
def test_a_command_that_is_refused_or_has_no_effect_changes_nothing(
    history: list[tuple[str, str, str]],
) -> None:
    table = played(history)
    dumped = projection.dump(table.live)
    taken = list(table.live.operations)[:1] or ["a"]
    for command in (
        Draw("ada", "player", tuple(line(id_, "ada") for id_ in (*taken, *taken))),
        Draw("ada", "player", (line("new", "bob"),)),
        Clear("ada", "player", "all"),
        Undo("ada", "player", "bob"),
        Redo("eve", "spectator", "eve"),
        Undo("dan", "gm", "nobody"),
    ):
        assert not isinstance(table.do(command) or "", msgspec.Struct)
    assert projection.dump(table.live) == dumped
