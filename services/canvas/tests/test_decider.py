"""What may happen on a canvas, told as given–when–then."""

from __future__ import annotations

import msgspec
import pytest

from roundtable.canvas.decider import DECIDER, Clear, Command, Draw, Event, Limits, Redo, State, Undo, decider
from roundtable.common.schema.basics import Point, Role
from roundtable.common.schema.canvas import Cleared, Drawn, Redone, StoredOperation, Undone
from roundtable.common.testing.scenario import Scenario


def line(id_: str, user: str = "ada", points: int = 2) -> StoredOperation:
    return StoredOperation(
        "draw", "pen", tuple(Point(float(n), 0.5) for n in range(points)), "#123456", 2.0, user, id_
    )


def drawn(*ids: str, user: str = "ada") -> Drawn:
    return Drawn(tuple(line(id_, user) for id_ in ids))


def draw(*ids: str, user: str = "ada", role: Role = "player") -> Draw:
    return Draw(user, role, drawn(*ids, user=user).operations)


def undo(user: str = "ada") -> Undo:
    return Undo(user, "player", user)


def redo(user: str = "ada") -> Redo:
    return Redo(user, "player", user)


def clear(user: str = "ada") -> Clear:
    return Clear(user, "player", "mine")


def clear_all(user: str = "gm") -> Clear:
    return Clear(user, "gm", "all")


def canvas(limits: Limits | None = None) -> Scenario[State, Command, Event]:
    return Scenario(decider(limits) if limits else DECIDER)


def seen(state: State) -> str:
    """The ids in drawing order, as one word."""
    return "".join(kept.id for kept in state.in_order)


# Drawing.


def test_what_is_drawn_is_seen_in_drawing_order() -> None:
    scenario = canvas().given(drawn("b"), drawn("a", user="bob")).when(draw("d", "c")).then(drawn("d", "c"))
    assert seen(scenario.state) == "badc"


@pytest.mark.rule("CV3")
def test_an_id_twice_in_one_draw_is_refused_by_its_path() -> None:
    canvas().when(draw("a", "b", "c", "b")).then_refused("invalid_data", "`params.operations[3].id`")


@pytest.mark.rule("CV3")
def test_an_id_that_is_already_in_the_room_is_refused_by_its_path() -> None:
    canvas().given(drawn("a", user="bob")).when(draw("b", "a")).then_refused(
        "invalid_data", "`params.operations[1].id`", "`a`"
    )


@pytest.mark.rule("CV3")
@pytest.mark.parametrize("gone", [Undone("ada", ("a",), ()), Cleared("mine", "ada", ("a",))])
def test_the_id_of_an_operation_that_could_come_back_is_still_taken(gone: Undone | Cleared) -> None:
    canvas().given(drawn("a"), gone).when(draw("a", user="bob")).then_refused(
        "invalid_data", "operations[0].id"
    )


@pytest.mark.rule("CV3")
def test_the_id_of_an_operation_that_can_never_come_back_is_free_again() -> None:
    scenario = canvas().given(drawn("a"), Undone("ada", ("a",), ()), drawn("b"))
    assert seen(scenario.when(draw("a", user="bob")).then(drawn("a", user="bob")).state) == "ba"


def test_drawing_in_anothers_name_is_forbidden_even_to_the_gm() -> None:
    forged = Draw("gm", "gm", (line("a", "gm"), line("b", "ada")))
    canvas().when(forged).then_refused("forbidden", "`params.operations[1].userId`")


@pytest.mark.rule("AU7")
@pytest.mark.parametrize(
    "command",
    [
        Draw("eve", "spectator", (line("x", "eve"),)),
        Clear("eve", "spectator", "mine"),
        Clear("eve", "spectator", "all"),
        Undo("eve", "spectator", "eve"),
        Redo("eve", "spectator", "eve"),
    ],
)
def test_a_spectator_changes_nothing(command: Command) -> None:
    # Eve was a player once: her stacks are not empty.
    canvas().given(drawn("a", user="eve"), drawn("b", user="eve"), Undone("eve", ("b",), ())).when(
        command
    ).then_refused("forbidden", "Spectators")


# Clearing.


@pytest.mark.parametrize("role", ["player", "gm"])
def test_clear_of_mine_hides_what_the_user_drew_and_no_more(role: Role) -> None:
    scenario = canvas().given(drawn("a"), drawn("b", user="bob"), drawn("c"))
    scenario.when(Clear("ada", role, "mine")).then(Cleared("mine", "ada", ("a", "c")))
    assert seen(scenario.state) == "b"


@pytest.mark.rule("AU7")
def test_clear_of_all_is_for_the_gm() -> None:
    scenario = canvas().given(drawn("a"), drawn("b", user="bob"))
    scenario.when(Clear("ada", "player", "all")).then_refused("forbidden", "`params.scope`")
    scenario.when(clear_all()).then(Cleared("all", "gm", ("a", "b")))
    assert seen(scenario.state) == ""


def test_clear_names_what_it_hides_in_drawing_order_whatever_came_back_when() -> None:
    canvas().given(drawn("a", "b"), drawn("c", user="bob")).after(undo(), redo()).when(clear_all()).then(
        Cleared("all", "gm", ("a", "b", "c"))
    )


def test_clear_of_nothing_is_no_fact() -> None:
    canvas().when(clear_all()).then_nothing()
    canvas().given(drawn("a", user="bob")).when(clear()).then_nothing()
    canvas().given(drawn("a")).after(clear_all()).when(clear()).then_nothing()


def test_clear_of_nothing_leaves_the_redo_alone() -> None:
    canvas().given(drawn("a")).after(undo()).when(clear()).then_nothing().when(redo()).then(
        Redone("ada", ("a",), ())
    )


# Undo and redo of one user.


@pytest.mark.rule("CV1")
def test_undo_takes_back_all_operations_of_the_last_draw() -> None:
    scenario = canvas().given(drawn("a"), drawn("b", "c")).when(undo()).then(Undone("ada", ("b", "c"), ()))
    assert seen(scenario.state) == "a"


@pytest.mark.rule("CV1")
def test_redo_shows_them_again_where_they_were() -> None:
    scenario = canvas().given(drawn("b", "c"), drawn("a", user="bob")).after(undo())
    assert seen(scenario.when(redo()).then(Redone("ada", ("b", "c"), ())).state) == "bca"


@pytest.mark.rule("CV1")
def test_undo_of_a_clear_shows_what_it_hid_and_redo_hides_it_again() -> None:
    scenario = canvas().given(drawn("a"), drawn("b", user="bob"), drawn("c")).after(clear())
    assert seen(scenario.when(undo()).then(Undone("ada", (), ("a", "c"))).state) == "abc"
    assert seen(scenario.when(redo()).then(Redone("ada", (), ("a", "c"))).state) == "b"


@pytest.mark.rule("CV2")
def test_undo_and_redo_of_nothing_are_no_error_and_no_fact() -> None:
    canvas().when(undo()).then_nothing().when(redo()).then_nothing()
    canvas().given(drawn("a", user="bob")).when(undo()).then_nothing()
    canvas().given(drawn("a")).when(redo()).then_nothing()
    canvas().given(drawn("a")).after(undo()).when(undo()).then_nothing()


@pytest.mark.rule("CV1")
@pytest.mark.parametrize("command", [draw("z"), clear()])
def test_a_new_draw_or_clear_empties_the_users_redo(command: Command) -> None:
    canvas().given(drawn("a"), drawn("b")).after(undo(), command).when(redo()).then_nothing()


@pytest.mark.rule("CV1")
def test_anothers_draw_or_clear_leaves_the_redo_alone() -> None:
    canvas().given(drawn("a"), drawn("b", user="bob")).after(
        undo(), draw("c", user="bob"), clear("bob")
    ).when(redo()).then(Redone("ada", ("a",), ()))


def test_what_can_never_come_back_leaves_the_state() -> None:
    scenario = canvas().given(drawn("a"), drawn("b", "c")).after(undo(), draw("d"))
    assert list(scenario.state.operations) == ["a", "d"]
    assert (
        scenario.state.kept_bytes == scenario.state.visible_bytes == 2 * len(msgspec.json.encode(line("a")))
    )


# With others.


@pytest.mark.rule("CV1")
def test_undo_passes_over_what_others_did_since() -> None:
    scenario = canvas().given(drawn("a"), drawn("b", user="bob")).after(undo())
    assert seen(scenario.state) == "b"


@pytest.mark.rule("AU7")
@pytest.mark.parametrize("command", [Undo("bob", "player", "ada"), Redo("bob", "player", "ada")])
def test_anothers_undo_and_redo_are_for_the_gm(command: Command) -> None:
    canvas().given(drawn("a"), drawn("b")).after(undo()).when(command).then_refused(
        "forbidden", "`params.userId`"
    )


@pytest.mark.rule("AU7")
def test_the_gm_undoes_and_redoes_in_the_users_own_stacks() -> None:
    scenario = canvas().given(drawn("a"), drawn("b", user="gm"))
    scenario.when(Undo("gm", "gm", "ada")).then(Undone("ada", ("a",), ()))
    scenario.when(undo()).then_nothing()
    scenario.when(Redo("gm", "gm", "ada")).then(Redone("ada", ("a",), ()))
    assert seen(scenario.state) == "ab"


def test_undo_of_a_draw_that_a_clear_hid_is_felt_when_the_clear_is_undone() -> None:
    scenario = canvas().given(drawn("a", "b")).after(draw("c", user="bob"), clear_all())
    scenario.when(undo()).then(Undone("ada", ("a", "b"), ()))
    scenario.when(Undo("gm", "gm", "gm")).then(Undone("gm", (), ("c",)))


def test_redo_of_a_draw_under_a_clear_shows_nothing_yet() -> None:
    scenario = canvas().given(drawn("a")).after(clear_all(), undo())
    scenario.when(redo()).then(Redone("ada", (), ()))
    scenario.when(Undo("gm", "gm", "gm")).then(Undone("gm", (), ("a",)))


def test_what_two_clears_hide_is_shown_when_both_are_undone() -> None:
    scenario = canvas().given(drawn("a")).after(clear(), undo(), clear_all())
    scenario.when(redo()).then(Redone("ada", (), ()))
    scenario.when(Undo("gm", "gm", "gm")).then(Undone("gm", (), ()))
    scenario.when(undo()).then(Undone("ada", (), ("a",)))


def test_redo_of_a_clear_hides_what_it_hid_and_nothing_newer() -> None:
    scenario = canvas().given(drawn("a")).after(clear_all(), Undo("gm", "gm", "gm"), draw("b"))
    assert seen(scenario.when(Redo("gm", "gm", "gm")).then(Redone("gm", (), ("a",))).state) == "b"


def test_undo_passes_over_a_step_of_which_nothing_is_left() -> None:
    scenario = canvas(Limits(depth=2)).given(drawn("a"), drawn("b"), Cleared("all", "gm", ("b",)))
    scenario.after(draw("c", user="gm"), draw("d", user="gm"))  # so the clear is forgotten, and `b` with it
    assert list(scenario.state.operations) == ["a", "c", "d"]
    scenario.when(undo()).then(Undone("ada", ("a",), ())).when(undo()).then_nothing()


# Bounds.


def test_a_draw_beyond_the_visible_is_refused_with_advice() -> None:
    scenario = canvas(Limits(visible=3)).given(drawn("a", "b"))
    scenario.when(draw("c", "d", user="bob")).then_refused(
        "invalid_data", "full", "3 operations", "Clear some"
    )
    scenario.when(draw("c", user="bob")).then(drawn("c", user="bob"))


def test_hidden_operations_leave_room_for_new_ones() -> None:
    canvas(Limits(visible=2)).given(drawn("a", "b")).after(undo()).when(draw("c", "d", user="bob")).then(
        drawn("c", "d", user="bob")
    )


def test_undo_and_redo_beyond_the_visible_are_refused_until_some_is_cleared() -> None:
    scenario = canvas(Limits(visible=2)).given(drawn("a", "b")).after(clear(), draw("c", user="bob"))
    scenario.when(undo()).then_refused("invalid_data", "Clear some")
    scenario.after(clear("bob")).when(undo()).then(Undone("ada", (), ("a", "b")))
    scenario = canvas(Limits(visible=2)).given(drawn("a", "b")).after(undo(), draw("c", user="bob"))
    scenario.when(redo()).then_refused("invalid_data", "Clear some")
    scenario.after(undo("bob")).when(redo()).then(Redone("ada", ("a", "b"), ()))


def test_a_canvas_is_bounded_in_bytes_exactly() -> None:
    size = len(msgspec.json.encode(line("a")))
    canvas(Limits(visible_bytes=2 * size)).when(draw("a", "b")).then(drawn("a", "b")).when(
        draw("c")
    ).then_refused("invalid_data", f"{2 * size:,} bytes.")
    canvas(Limits(visible_bytes=2 * size - 1)).when(draw("a", "b")).then_refused("invalid_data", "full")


def test_a_canvas_is_bounded_in_bytes_of_ids_as_json_writes_them() -> None:
    nul = "\0" * 64
    size = len(msgspec.json.encode([nul, "a"]))
    canvas(Limits(visible_ids=size - 1)).when(draw(nul, "a")).then(drawn(nul, "a")).when(
        draw("b")
    ).then_refused("invalid_data", "bytes of ids")
    canvas(Limits(visible_ids=size - 2)).when(draw(nul, "a")).then_refused("invalid_data", "bytes of ids")


def test_a_forgotten_draw_stays_and_is_never_undone() -> None:
    scenario = canvas(Limits(depth=2)).given(drawn("a"), drawn("b"), drawn("c")).after(undo(), undo())
    assert seen(scenario.when(undo()).then_nothing().state) == "a"


def test_what_a_forgotten_clear_hid_is_gone() -> None:
    scenario = canvas(Limits(depth=2)).given(drawn("a", user="bob")).after(clear_all(), draw("b", user="gm"))
    assert list(scenario.state.operations) == ["a", "b"]
    assert list(scenario.after(draw("c", user="gm")).state.operations) == ["b", "c"]
    scenario.when(undo("bob")).then_nothing()


def test_the_user_who_did_nothing_for_longest_is_forgotten_first() -> None:
    scenario = canvas(Limits(users=2)).given(drawn("a"), drawn("b", user="bob")).after(undo(), redo())
    scenario.after(draw("c", user="cleo")).when(undo("bob")).then_nothing()
    scenario.when(undo()).then(Undone("ada", ("a",), ())).when(undo("cleo")).then(Undone("cleo", ("c",), ()))


def test_a_new_draw_is_doing_something() -> None:
    scenario = canvas(Limits(users=2)).given(drawn("a"), drawn("b", user="bob"))
    scenario.after(draw("c"), draw("d", user="cleo")).when(undo("bob")).then_nothing()
    scenario.when(undo()).then(Undone("ada", ("c",), ()))


def test_a_canvas_that_is_too_full_already_lets_pass_what_shows_nothing() -> None:
    scenario = canvas(Limits(visible=1)).given(
        drawn("a"), Cleared("mine", "ada", ("a",)), Undone("ada", (), ("a",))
    )
    scenario.after(clear_all(), redo()).given(drawn("b", "c", user="bob"))
    scenario.when(Undo("gm", "gm", "gm")).then(Undone("gm", (), ()))
    scenario.when(undo()).then_refused("invalid_data", "full")


def test_what_a_forgotten_user_had_undone_or_cleared_is_gone() -> None:
    scenario = canvas(Limits(users=1)).given(drawn("a"), drawn("b"), drawn("c")).after(undo(), clear())
    scenario.after(draw("d"), undo())
    assert list(scenario.state.operations) == ["a", "b", "d"]
    assert list(scenario.after(draw("x", user="bob")).state.operations) == ["x"]


def test_invisible_operations_are_kept_up_to_three_times_the_visible_and_the_oldest_go_first() -> None:
    limits = Limits(visible=10)
    scenario = canvas(limits)
    for n in range(4):
        scenario.after(draw(*(f"{n}{m}" for m in range(10))), clear())
    assert len(scenario.state.operations) == 40
    scenario.after(draw("x"))
    assert len(scenario.state.operations) == 36
    assert next(iter(scenario.state.operations)) == "05"
    for _ in range(7):
        scenario.after(undo())
    scenario.when(undo()).then(Undone("ada", (), tuple(f"0{n}" for n in range(5, 10))))
    scenario.when(undo()).then(Undone("ada", tuple(f"0{n}" for n in range(5, 10)), ()))


def test_invisible_operations_are_bounded_in_bytes_too() -> None:
    limits = Limits(visible_bytes=10 * len(msgspec.json.encode(line("00"))))
    scenario = canvas(limits)
    for n in range(16):
        scenario.after(draw(*(f"{n:x}{m}" for m in range(10))), clear())
        assert scenario.state.kept_bytes <= limits.kept_bytes


def test_steps_of_which_nothing_is_left_hold_no_memory_in_the_end() -> None:
    scenario = canvas(Limits(visible=4, depth=50))
    for n in range(20):
        scenario.after(draw(*(f"{n}.{m}" for m in range(4)), user=f"user{n % 3}"), clear_all())
    held = {
        id(kept)
        for stacks in scenario.state.stacks.values()
        for step in (*stacks.undo, *stacks.redo)
        for kept in step.operations
    }
    assert len(held) <= len(scenario.state.operations) + 4


# What was decided under other limits, or is there twice.


def test_what_is_seen_follows_the_facts_even_where_the_stacks_do_not() -> None:
    scenario = canvas(Limits(depth=1)).given(drawn("a"), drawn("b"))
    scenario.given(Undone("ada", ("b",), ()), Undone("ada", ("a",), ()))
    assert seen(scenario.state) == ""
    scenario.given(Redone("ada", ("a", "unknown"), ()), Undone("nobody", (), ("b", "unknown")))
    assert seen(scenario.state) == "ab"


def test_a_fact_that_draws_an_id_again_draws_it_anew() -> None:
    scenario = canvas().given(drawn("a"), drawn("b"), drawn("a", user="bob"))
    assert seen(scenario.state) == "ba"
    assert (
        scenario.state.visible_bytes == scenario.state.kept_bytes == 2 * len(msgspec.json.encode(line("a")))
    )
    scenario.given(Drawn(()))
    scenario.when(undo()).then(Undone("ada", ("b",), ())).when(undo()).then_nothing()
