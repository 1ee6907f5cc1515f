"""Pure layer: what a batch of commands means for a room, decided on what the room believes. Knows no log, no loop, no clock.

Whether it becomes true the log decides: see `command_handler`. A domain's `prepare` brings the chance and the new ids in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from msgspec import Raw, Struct

from .decider import Domain
from .recent import RecentCommands, key_of
from .schema.envelope import to_json
from .schema.errors import Refusal
from .schema.log import NOBODY, UNCHANGED, CommandMessage, StoredEvent
from .schema.methods import METHODS

BATCH_BYTES: Final = 512 * 1024
"""A round ends with the command that passes this, so that its message stays below what NATS takes."""


class Work(Protocol):
    """One thing to do: a message to answer, or internal commands."""

    @property
    def message(self) -> CommandMessage | None: ...

    @property
    def commands(self) -> Sequence[Any]: ...


S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E", bound=Struct)
W = TypeVar("W", bound=Work)


class Believer(Protocol[S]):
    """A room, as a round sees it. Deciding changes its `state`, which is true only once the round is stored."""

    state: S

    @property
    def recent(self) -> RecentCommands: ...


class Decided(NamedTuple, Generic[W, E]):
    work: W
    events: Sequence[E]
    end: int
    """Events in the message up to its own, those included."""
    refusal: Refusal | None = None


class Round(Generic[W, E]):
    """Decided, and not yet stored."""

    def __init__(self) -> None:
        self.decided: list[Decided[W, E]] = []
        self.queries: list[W] = []
        self.repeats: list[W] = []
        """Commands that were carried out before, or stand in this batch twice."""
        self.left: list[W] = []
        """What did not fit."""
        self.stored: list[StoredEvent] = []
        self.size = 0


class Poison(Exception, Generic[W]):
    """A command on which the domain failed in a way that is no refusal."""

    def __init__(self, work: W) -> None:
        self.work = work


def decide_round(domain: Domain[S, C, E], room: Believer[S], batch: Sequence[W], now: int) -> Round[W, E]:
    """Raises `Poison`; then the room's state is not to be trusted."""
    found: Round[W, E] = Round()
    keys: set[int] = set()
    for number, work in enumerate(batch):
        if found.size > BATCH_BYTES:
            found.left = list(batch[number:])
            break
        message = work.message
        if message is not None:
            method = METHODS.get(message.method)
            if method is not None and method.kind == "query":
                found.queries.append(work)
                continue
            if message.id:
                key = key_of(message.user, message.method, message.id)
                if key in keys or room.recent.find(key) is not None:
                    found.repeats.append(work)
                    continue
                keys.add(key)
        try:
            events = _decide(domain, room, work, now)
            recorded = [_record(domain, event, message, now) for event in events]
            if not events and message is not None and _is_remembered(message):
                recorded = [_unchanged(message, now)]
            found.stored += recorded
            found.size += sum(len(stored.data) + 100 for stored in recorded)
        except Refusal as refusal:
            found.decided.append(Decided(work, (), 0, refusal))
        except Exception as error:
            raise Poison(work) from error
        else:
            found.decided.append(Decided(work, events, len(found.stored) if recorded else 0))
    return found


def _decide(domain: Domain[S, C, E], room: Believer[S], work: Work, now: int) -> list[E]:
    """That an internal command is refused is the domain's own affair."""
    decide, evolve = domain.decider.decide, domain.decider.evolve
    message = work.message
    commands = work.commands if message is None else (domain.prepare(message, now),)
    events: list[E] = []
    for command in commands:
        try:
            caused = decide(room.state, command)
        except Refusal:
            if message is not None:
                raise
            continue
        for event in caused:
            room.state = evolve(room.state, event)
            events.append(event)
    return events


def _record(domain: Domain[S, C, E], event: E, message: CommandMessage | None, now: int) -> StoredEvent:
    method, data, audience = domain.record(event)
    if message is None:
        return StoredEvent(method, to_json(data), now, audience=audience)
    cause = message.method if message.method != method else ""
    return StoredEvent(method, to_json(data), now, message.user, message.id, cause, audience, message.seen)


def _is_remembered(message: CommandMessage) -> bool:
    """Whether it must stay without effect (RS6): a copy that comes late, when there is something to undo, is no new one."""
    method = METHODS.get(message.method)
    return bool(message.id) and method is not None and not method.internal


def _unchanged(message: CommandMessage, now: int) -> StoredEvent:
    return StoredEvent(
        UNCHANGED, Raw(b"{}"), now, message.user, message.id, message.method, NOBODY, message.seen
    )
