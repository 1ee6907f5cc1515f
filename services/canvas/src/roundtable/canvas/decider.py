"""Pure layer: what may happen on a canvas and what it then looks like (CV1–CV3, AU7). Knows no wire, log or clock.

An operation is drawn once and shows unless its draw is undone or an active clear hides it. Each user has two stacks of
steps, done and undone; a step is one draw or one clear, with the operations that it drew or hid. Undo reverts the top
step of the one and puts it on the other, redo the reverse, whatever others did meanwhile.

What is seen follows the facts alone (`operations`, `cleared`, `restored`, `hidden`), for clients and here alike; the
stacks only serve to decide the next fact. An operation that can never show again is dropped: steps may still hold it,
no longer `alive`, and a step without living operations is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from roundtable.common.decider import Decider
from roundtable.common.schema.basics import Role
from roundtable.common.schema.canvas import Cleared, Drawn, Redone, StoredOperation, Undone
from roundtable.common.schema.errors import Refusal


class Draw(Struct, frozen=True):
    """Every operation has its id; its `user_id` is whose it claims to be."""

    user: str
    role: Role
    operations: tuple[StoredOperation, ...]


class Clear(Struct, frozen=True):
    user: str
    role: Role
    scope: Literal["all", "mine"] = "mine"


class Undo(Struct, frozen=True):
    """`target`: whose last step."""

    user: str
    role: Role
    target: str


class Redo(Struct, frozen=True):
    user: str
    role: Role
    target: str


Command = Draw | Clear | Undo | Redo
Event = Drawn | Cleared | Undone | Redone


class Limits(Struct, frozen=True):
    """What keeps a room's memory and its messages bounded. Invisible operations get three times the room of visible ones."""

    visible: int = 50_000
    """Operations to be seen at a time."""
    visible_bytes: int = 32 * 1024 * 1024
    """Of their JSON: what a whole canvas takes to tell."""
    visible_ids: int = 2 * 1024 * 1024
    """Bytes of their ids alone: what a `canvas.clear` of all, or its undo, takes to tell. One log message must hold it."""
    depth: int = 1_000
    """Steps that one user can undo."""
    users: int = 10_000
    """Users with stacks."""

    @property
    def kept(self) -> int:
        return 4 * self.visible

    @property
    def kept_bytes(self) -> int:
        return 4 * self.visible_bytes


class Kept(Struct, gc=False):
    """An operation in the state. `json` is a `StoredOperation` as it is told: a quarter of the objects' memory, and a
    canvas or snapshot is then put together by joining."""

    id: str
    user: str
    json: bytes
    id_bytes: int
    """Of the id in a JSON list."""
    order: int
    """Grows in drawing order."""
    undone: bool = False
    clears: int = 0
    """Active clears that hide it."""
    alive: bool = True
    """False: dropped from the state, which ends every reference, even if the id comes again."""

    @property
    def free(self) -> bool:
        """Nothing keeps it from being seen."""
        return self.alive and not self.undone and not self.clears


class Step(Struct, gc=False):
    """What one command did: the operations that it drew, or those that it hid."""

    clear: bool
    operations: tuple[Kept, ...]

    @property
    def living(self) -> list[Kept]:
        return [kept for kept in self.operations if kept.alive]

    @property
    def alive(self) -> bool:
        return any(kept.alive for kept in self.operations)


SWEEP: Final = 50_000
"""Operations that steps may at most hold in vain; fewer where fewer are visible."""
DEAD: Final = Step(False, ())
"""Stands for every step without living operations once it is swept: it still counts for the depth."""


class Stacks(Struct):
    undo: list[Step] = field(default_factory=list)
    redo: list[Step] = field(default_factory=list)


class State(Struct):
    operations: dict[str, Kept] = field(default_factory=dict)
    """In drawing order."""
    visible: dict[str, Kept] = field(default_factory=dict)
    """In no order: see `in_order`."""
    stacks: dict[str, Stacks] = field(default_factory=dict)
    """By user; who did something last stands last."""
    drawn: int = 0
    """The last `order`."""
    kept_bytes: int = 0
    visible_bytes: int = 0
    visible_ids: int = 0
    stale: int = 0
    """Operations dropped since the last sweep."""

    @property
    def in_order(self) -> list[Kept]:
        """The visible operations in drawing order."""
        return sorted(self.visible.values(), key=_order)


_encode: Final = msgspec.json.Encoder().encode


def id_bytes(ids: Collection[str]) -> int:
    """Of these ids in a JSON list, each with its comma."""
    return len(_encode(ids)) - 1


def _order(kept: Kept) -> int:
    return kept.order


# Deciding.


def decide(state: State, command: Command, limits: Limits) -> Sequence[Event]:
    if command.role == "spectator":
        raise Refusal("forbidden", "Spectators may not change the canvas")
    match command:
        case Draw():
            return _decide_draw(state, command, limits)
        case Clear():
            return _decide_clear(state, command)
        case Undo():
            return _decide_undo(state, command, limits)
        case Redo():
            return _decide_redo(state, command, limits)


def _decide_draw(state: State, command: Draw, limits: Limits) -> Sequence[Event]:
    fresh: set[str] = set()
    for index, operation in enumerate(command.operations):
        if operation.user_id != command.user:
            raise Refusal("forbidden", f"`params.operations[{index}].userId`: nobody draws in another's name")
        if operation.id in fresh or operation.id in state.operations:
            raise Refusal(
                "invalid_data", f"`params.operations[{index}].id`: `{operation.id}` is taken in this room"
            )
        fresh.add(operation.id)
    size = sum([1024 + 64 * len(operation.points) for operation in command.operations])
    if state.visible_bytes + size > limits.visible_bytes:
        # Only near the limit is it worth knowing exactly.
        size = sum([len(_encode(operation)) for operation in command.operations])
    _refuse_if_full(state, limits, len(fresh), size, id_bytes(fresh))
    return (Drawn(command.operations),)


def _decide_clear(state: State, command: Clear) -> Sequence[Event]:
    if command.scope == "all":
        if command.role != "gm":
            raise Refusal("forbidden", "`params.scope`: only a gm clears `all`")
        cleared = _ids(state.in_order)
    else:
        cleared = _ids(kept for kept in state.in_order if kept.user == command.user)
    return (Cleared(command.scope, command.user, cleared),) if cleared else ()


def _decide_undo(state: State, command: Undo, limits: Limits) -> Sequence[Event]:
    step = _top(state, command, lambda stacks: stacks.undo)
    if step is None:
        return ()
    if not step.clear:
        return (Undone(command.target, _ids(step.living), ()),)
    restored = [kept for kept in step.living if not kept.undone and kept.clears == 1]
    _refuse_if_too_many(state, limits, restored)
    return (Undone(command.target, (), _ids(restored)),)


def _decide_redo(state: State, command: Redo, limits: Limits) -> Sequence[Event]:
    step = _top(state, command, lambda stacks: stacks.redo)
    if step is None:
        return ()
    if step.clear:
        return (Redone(command.target, (), _ids(kept for kept in step.living if kept.free)),)
    shown = [kept for kept in step.living if not kept.clears]
    _refuse_if_too_many(state, limits, shown)
    return (Redone(command.target, _ids(shown), ()),)


def _top(state: State, command: Undo | Redo, stack: Callable[[Stacks], list[Step]]) -> Step | None:
    """The last living step of whom the command is about."""
    if command.target != command.user and command.role != "gm":
        raise Refusal("forbidden", "`params.userId`: only a gm undoes and redoes what another did")
    stacks = state.stacks.get(command.target)
    return next((step for step in reversed(stack(stacks)) if step.alive), None) if stacks else None


def _refuse_if_too_many(state: State, limits: Limits, shown: list[Kept]) -> None:
    size = sum([len(kept.json) for kept in shown])
    _refuse_if_full(state, limits, len(shown), size, sum([kept.id_bytes for kept in shown]))


def _refuse_if_full(state: State, limits: Limits, more: int, more_bytes: int, more_ids: int) -> None:
    """Whatever was seen once was within the limits, so undo and redo alone never meet them."""
    for now, add, most, what in (
        (len(state.visible), more, limits.visible, "operations"),
        (state.visible_bytes, more_bytes, limits.visible_bytes, "bytes"),
        (state.visible_ids, more_ids, limits.visible_ids, "bytes of ids"),
    ):
        if add and now + add > most:
            raise Refusal("invalid_data", f"The canvas is full: it holds {most:,} {what}. Clear some first")


def _ids(operations: Iterable[Kept]) -> tuple[str, ...]:
    return tuple([kept.id for kept in operations])


# Evolving. Every function changes the state that it is given. A fact may name operations that are not there, or not in
# the way expected, if it was decided under other limits: then what can be seen still follows the fact.


def evolve(state: State, event: Event, limits: Limits) -> State:
    match event:
        case Drawn():
            _drawn(state, event, limits)
        case Cleared():
            cleared = [kept for id_ in event.cleared if (kept := state.operations.get(id_))]
            for kept in cleared:
                kept.clears += 1
            _hide(state, event.cleared)
            _done(state, event.user_id, Step(True, tuple(cleared)), limits)
        case Undone():
            _move(state, event.user_id, undo=True)
            _hide(state, event.operations)
            _show(state, event.restored)
        case Redone():
            _move(state, event.user_id, undo=False)
            _hide(state, event.hidden)
            _show(state, event.operations)
    if state.stale >= min(limits.visible, SWEEP):
        _sweep(state)
    return state


def _drawn(state: State, event: Drawn, limits: Limits) -> None:
    drawn: list[Kept] = []
    for operation in event.operations:
        if operation.id in state.operations:
            _hide(state, (operation.id,))
            _drop(state, state.operations[operation.id])
        state.drawn += 1
        json, ids = _encode(operation), id_bytes((operation.id,))
        kept = Kept(operation.id, operation.user_id, json, ids, state.drawn)
        state.operations[kept.id] = state.visible[kept.id] = kept
        state.kept_bytes += len(json)
        state.visible_bytes += len(json)
        state.visible_ids += ids
        drawn.append(kept)
    if drawn:
        _done(state, drawn[0].user, Step(False, tuple(drawn)), limits)
        _trim(state, limits)


def _move(state: State, user: str, undo: bool) -> None:
    """The top step of the one stack takes or loses effect and goes to the other."""
    stacks = state.stacks.pop(user, None)
    if stacks is None:
        return
    source, target = (stacks.undo, stacks.redo) if undo else (stacks.redo, stacks.undo)
    step = _take(source)
    if step is not None:
        for kept in step.operations:
            if step.clear:
                kept.clears += -1 if undo else 1
            else:
                kept.undone = undo
        target.append(step)
    _put(state, user, stacks)


def _done(state: State, user: str, step: Step, limits: Limits) -> None:
    """A new step of this user: it can be undone, and what was undone can no longer be redone."""
    stacks = state.stacks.pop(user, None) or Stacks()
    _forget_undone(state, stacks)
    stacks.undo.append(step)
    while len(stacks.undo) > limits.depth:
        _forget_done(state, stacks.undo.pop(0))
    _put(state, user, stacks)
    while len(state.stacks) > limits.users:
        idle = state.stacks.pop(next(iter(state.stacks)))
        _forget_undone(state, idle)
        for old in idle.undo:
            _forget_done(state, old)


def _take(stack: list[Step]) -> Step | None:
    while stack:
        step = stack.pop()
        if step.alive:
            return step
    return None


def _put(state: State, user: str, stacks: Stacks) -> None:
    if stacks.undo or stacks.redo:
        state.stacks[user] = stacks


def _forget_undone(state: State, stacks: Stacks) -> None:
    """Undone draws never come back, so their operations go; undone clears hide nothing."""
    for step in stacks.redo:
        if not step.clear:
            for kept in step.living:
                _drop(state, kept)
    stacks.redo.clear()


def _forget_done(state: State, step: Step) -> None:
    """What was drawn stays; what was cleared never comes back, so it goes."""
    if step.clear:
        for kept in step.living:
            _drop(state, kept)


def _hide(state: State, ids: Iterable[str]) -> None:
    take, size, id_size = state.visible.pop, 0, 0
    for id_ in ids:
        kept = take(id_, None)
        if kept is not None:
            size += len(kept.json)
            id_size += kept.id_bytes
    state.visible_bytes -= size
    state.visible_ids -= id_size


def _show(state: State, ids: Iterable[str]) -> None:
    operations, visible, size, id_size = state.operations, state.visible, 0, 0
    for id_ in ids:
        kept = operations.get(id_)
        if kept is not None and id_ not in visible:
            visible[id_] = kept
            size += len(kept.json)
            id_size += kept.id_bytes
    state.visible_bytes += size
    state.visible_ids += id_size


def _drop(state: State, kept: Kept) -> None:
    """Nothing can show it again. If it is seen all the same, a fact wanted it so, and it stays."""
    if kept.id in state.visible:
        return
    del state.operations[kept.id]
    state.kept_bytes -= len(kept.json)
    state.stale += 1
    kept.alive = False
    kept.json = b""


def _trim(state: State, limits: Limits) -> None:
    """Past the limit the oldest invisible operations go, a tenth at once, so that the search for them is rare."""
    if len(state.operations) <= limits.kept and state.kept_bytes <= limits.kept_bytes:
        return
    for kept in list(state.operations.values()):
        _drop(state, kept)
        if len(state.operations) <= limits.kept * 0.9 and state.kept_bytes <= limits.kept_bytes * 0.9:
            return


def _sweep(state: State) -> None:
    """Lets go of dropped operations. Nothing that anybody could notice changes."""
    state.stale = 0
    for stacks in state.stacks.values():
        for stack in (stacks.undo, stacks.redo):
            for index, step in enumerate(stack):
                step.operations = tuple(step.living)
                if not step.operations:
                    stack[index] = DEAD


def decider(limits: Limits = Limits()) -> Decider[State, Command, Event]:  # noqa: B008 - frozen
    return Decider(State, partial(decide, limits=limits), partial(evolve, limits=limits))


DECIDER: Final = decider()
