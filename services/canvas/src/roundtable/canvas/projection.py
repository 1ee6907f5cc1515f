"""Pure layer: the canvas's facts on the wire and in the log, its answers, its snapshot. Knows no transport, no clock.

A fact's wire form is the fact itself; everybody in the room sees it (EN5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from roundtable.common.decider import Recorded
from roundtable.common.schema.canvas import (
    ClearAnswer,
    Cleared,
    DrawAnswer,
    Drawn,
    RedoAnswer,
    Redone,
    UndoAnswer,
    Undone,
)
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, StoredEvent

from .decider import DEAD, Event, Kept, Stacks, State, Step

_METHODS: Final[dict[type[Event], str]] = {
    Drawn: "canvas.draw",
    Cleared: "canvas.clear",
    Undone: "canvas.undo",
    Redone: "canvas.redo",
}
_DECODERS: Final = {method: msgspec.json.Decoder(kind) for kind, method in _METHODS.items()}


def record(event: Event) -> Recorded:
    return Recorded(_METHODS[type(event)], event)


def recall(stored: StoredEvent) -> Event | None:
    decoder = _DECODERS.get(stored.method)
    if decoder is None:
        return None
    try:
        event: Event = decoder.decode(stored.data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return event


def answer(message: CommandMessage, events: Sequence[Event]) -> Struct:
    """The ids that the command touched; none if it caused no fact (CV2)."""
    ids: list[str] = []
    for event in events:
        match event:
            case Drawn():
                ids += [operation.id for operation in event.operations]
            case Cleared():
                ids += event.cleared
            case Undone():
                ids += event.operations + event.restored
            case Redone():
                ids += event.operations + event.hidden
    match message.method:
        case "canvas.draw":
            return DrawAnswer(tuple(ids))
        case "canvas.clear":
            return ClearAnswer(tuple(ids))
        case "canvas.undo":
            return UndoAnswer(tuple(ids))
        case "canvas.redo":
            return RedoAnswer(tuple(ids))
        case method:
            raise Refusal("unknown_method", f"The canvas does not know `{method}`")


class Canvas(Struct, frozen=True):
    """A `StateAnswer` whose operations are JSON already."""

    operations: Raw


def canvas(state: State) -> Canvas:
    return Canvas(Raw(b"[" + b",".join([kept.json for kept in state.in_order]) + b"]"))


# The snapshot: columns, one entry for each operation in drawing order, to which steps refer by number. What can be
# counted again (`undone`, `clears`, sums) is not in it, nor what was dropped. All is flat, for the sake of speed.


class _Dump(Struct, frozen=True, array_like=True):
    version: int
    ids: list[str]
    id_bytes: list[int]
    users: list[str]
    drawers: list[int]
    """Numbers in `users`."""
    visible: bytes
    """One byte each, 0 or 1."""
    json: list[bytes]
    stacks: list[tuple[str, list[int], list[int]]]
    """User, undo, redo. Of each step twice the number of its operations, plus one for a clear; then the operations."""


_VERSION: Final = 1


def dump(state: State) -> Any:
    operations = list(state.operations.values())
    numbers = {id_: number for number, id_ in enumerate(state.operations)}
    users: dict[str, int] = {}

    def steps(stack: list[Step]) -> list[int]:
        flat: list[int] = []
        for step in stack:
            head = len(flat)
            flat.append(0)
            for kept in step.operations:
                if kept.alive:
                    flat.append(numbers[kept.id])  # noqa: PERF401 - a list for each step costs twice the time
            size = len(flat) - head - 1
            if size:
                flat[head] = 2 * size + step.clear
        return flat

    return _Dump(
        version=_VERSION,
        drawers=[users.setdefault(kept.user, len(users)) for kept in operations],
        users=list(users),
        ids=list(numbers),
        id_bytes=[kept.id_bytes for kept in operations],
        visible=bytes([id_ in state.visible for id_ in numbers]),
        json=[kept.json for kept in operations],
        stacks=[(user, steps(stacks.undo), steps(stacks.redo)) for user, stacks in state.stacks.items()],
    )


def restore(dumped: Any) -> State:
    """Raises `ValueError` (of which msgspec's own errors are a kind) or `IndexError` for what `dump` did not make."""
    columns = msgspec.convert(dumped, _Dump)
    if columns.version != _VERSION:
        raise ValueError(f"a canvas snapshot of version {columns.version}")
    users = columns.users
    rows = zip(columns.ids, columns.drawers, columns.json, columns.id_bytes, strict=True)
    operations = [
        Kept(id_, users[user], json, size, order) for order, (id_, user, json, size) in enumerate(rows, 1)
    ]
    visible = [kept for kept, shown in zip(operations, columns.visible, strict=True) if shown]

    def steps(flat: list[int]) -> list[Step]:
        stack, at = [], 0
        while at < len(flat):
            size, clear = divmod(flat[at], 2)
            step = Step(bool(clear), tuple([operations[number] for number in flat[at + 1 : at + 1 + size]]))
            stack.append(step if size else DEAD)
            at += 1 + size
        return stack

    stacks = {user: Stacks(steps(undo), steps(redo)) for user, undo, redo in columns.stacks}
    for one in stacks.values():
        for step in one.undo:
            for kept in step.operations if step.clear else ():
                kept.clears += 1
        for step in one.redo:
            for kept in () if step.clear else step.operations:
                kept.undone = True
    return State(
        operations=dict(zip(columns.ids, operations, strict=True)),
        visible={kept.id: kept for kept in visible},
        stacks=stacks,
        drawn=len(operations),
        kept_bytes=sum([len(kept.json) for kept in operations]),
        visible_bytes=sum([len(kept.json) for kept in visible]),
        visible_ids=sum([kept.id_bytes for kept in visible]),
    )
