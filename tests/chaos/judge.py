"""Test layer: what the logs hold, read from JetStream, and whether everybody was told just that (RS2, RS4, RS6, RS7)."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, NamedTuple

import msgspec
import nats
from nats.aio.client import Client

from roundtable.common.cursor import Cursor, Position, Vector
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.room import decode_stored
from roundtable.common.schema.log import SERVICES, UNCHANGED, Service, StoredEvent

from .crew import Asked, Member, digest

NOTED: Final = 12
"""Faults of one kind that are told; the others are counted."""


class Stored(NamedTuple):
    position: Position
    event: StoredEvent
    content: bytes
    """What those are told who may see it."""


History = dict[Service, list[Stored]]
"""A room's three logs."""

Server = str | Callable[[], Awaitable[Client]]
"""Where the logs are: a URL, or what connects to it."""

_HIDDEN: Final = "session.cursor"


async def read_logs(server: Server, rooms: Collection[str]) -> dict[str, History]:
    client = await (nats.connect(server, connect_timeout=5) if isinstance(server, str) else server())
    try:
        found: dict[str, History] = {}
        for room in rooms:
            found[room] = {}
            for service in SERVICES:
                log, entries, after = JetStreamEventLog(client, service), [], 0
                while messages := await log.read(room, after):
                    for message in messages:
                        after = message.seq
                        events = decode_stored(message).events
                        entries += [
                            Stored(
                                Position.of(message.seq, number, len(events)),
                                event,
                                digest(msgspec.json.decode(event.data), event.timestamp),
                            )
                            for number, event in enumerate(events)
                        ]
                found[room][service] = entries
        return found
    finally:
        await client.close()


def end_of(history: History) -> Vector:
    return Vector(*(history[each][-1].position if history[each] else Position(0) for each in SERVICES))


async def all_told(server: Server, members: Collection[Member], within: float = 25.0) -> None:
    """Returns when everybody has been told all that is in the logs now. Raises `AssertionError` when that takes too long."""
    logs = await read_logs(server, {member.room for member in members})
    ends = {room: end_of(history) for room, history in logs.items()}

    def waiting() -> list[str]:
        return [
            f"{each.user} ({each.player!r}) is at {each.cursor}, the logs end at {ends[each.room]}"
            for each in members
            if not Cursor.parse(each.cursor).vector.covers(ends[each.room])
        ]

    deadline = asyncio.get_running_loop().time() + within
    while (late := waiting()) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    assert not late, f"not told all within {within:g} s: {late}"


def judge(logs: dict[str, History], members: Sequence[Member]) -> list[str]:
    """Everything that is wrong; empty when the promises hold. `logs` are at least as long as what was told."""
    faults: list[str] = []
    for member in members:
        faults += member.faults
        faults += _reading(member, logs[member.room])
    for room, history in logs.items():
        asked = [one for member in members if member.room == room for one in member.asked]
        faults += _once(room, history)
        faults += _acknowledged(room, history, asked)
    return faults


def _reading(member: Member, history: History) -> list[str]:
    """Whether a reader was told each log's events from its start on, each once, in the log's order, with fitting cursors."""
    faults: list[str] = []
    place = Cursor.parse(member.start).vector
    known = {each: {s.position: n for n, s in enumerate(history[each])} for each in SERVICES}
    expected = {each: sum(s.position <= place.at(each) for s in history[each]) for each in SERVICES}
    for heard in member.heard:
        vector = Cursor.parse(heard.cursor).vector
        moved = [each for each in SERVICES if vector.at(each) != place.at(each)]
        if len(moved) != 1:
            faults.append(f"{member.user}: the cursor went from {place} to {vector} with {heard.method}")
            place = vector
            expected = {each: known[each].get(vector.at(each), expected[each] - 1) + 1 for each in SERVICES}
            continue
        service, place = moved[0], vector
        number = known[service].get(vector.at(service))
        if number is None:
            faults.append(f"{member.user}: was told {heard}, which is not in the log of {service}")
            continue
        wanted = expected[service]
        if number > wanted:
            lost = [str(s.position) for s in history[service][wanted:number]]
            faults.append(f"{member.user}: lost {len(lost)} of {service} before {heard}: {lost[:5]}")
        elif number < wanted:
            faults.append(f"{member.user}: told again or too late, of {service}: {heard}")
        expected[service] = max(wanted, number + 1)
        faults += _content(member, history[service][number], heard.method, heard.content)
    return _few(faults)


def _content(member: Member, stored: Stored, method: str, content: bytes) -> list[str]:
    audience = stored.event.audience
    if audience is None or audience.admits(member.user, member.role):
        if (method, content) != (stored.event.method, stored.content):
            return [
                f"{member.user}: at {stored.position} was told another {method} than the log's {stored.event}"
            ]
    elif method != _HIDDEN:
        return [f"{member.user}: was told at {stored.position} what is not for their eyes: {method}"]
    return []


def _once(room: str, history: History) -> list[str]:
    """No stroke and no command takes effect twice."""
    faults: list[str] = []
    strokes = Counter(
        operation["id"]
        for stored in history["canvas"]
        if stored.event.method == "canvas.draw"
        for operation in msgspec.json.decode(stored.event.data)["operations"]
    )
    faults += [f"{room}: stroke {ident} is in the log {n} times" for ident, n in strokes.items() if n > 1]
    for service in SERVICES:
        places: dict[tuple[str, str, str], set[int]] = defaultdict(set)
        for stored in history[service]:
            event = stored.event
            if event.command:
                places[event.user, event.cause or event.method, event.command].add(stored.position.seq)
        faults += [f"{room}: {key} took effect at {at}" for key, at in places.items() if len(at) > 1]
    return _few(faults)


def _acknowledged(room: str, history: History, asked: Sequence[Asked]) -> list[str]:
    """What was answered is in the log, where the answer says, and in the order in which its writer was answered."""
    faults: list[str] = []
    found: dict[tuple[str, str, str], Position] = {}
    for service in SERVICES:
        for stored in history[service]:
            event = stored.event
            if event.command and event.method != UNCHANGED:
                found[event.user, event.cause or event.method, event.command] = stored.position
    last: dict[tuple[str, str], Position] = {}
    for one in sorted(asked, key=lambda one: one.ended):
        position = found.get((one.user, one.method, one.ident))
        effect = _had_effect(one)
        if position is None:
            if effect:
                faults.append(f"{room}: {one.method} {one.ident} was acknowledged, and is not in the log")
            continue
        if effect is False:
            faults.append(
                f"{room}: {one.method} {one.ident} changed nothing, by its answer, but see {position}"
            )
        if "cursor" in (one.data or {}):
            at = Cursor.parse(one.data["cursor"]).vector.canvas
            if at < position:
                faults.append(f"{room}: {one.ident} stands at {position}, its answer's cursor is {at}")
        writer = (one.user, one.method.partition(".")[0])
        if position < last.get(writer, Position(0)):
            faults.append(f"{room}: {one.ident} is at {position}, its writer's earlier at {last[writer]}")
        last[writer] = position
    return _few(faults)


def _had_effect(one: Asked) -> bool | None:
    """By its answer; None: that does not tell."""
    match one.method:
        case "canvas.draw" | "activity.post":
            return True
        case "presence.update":
            return None
        case _:
            return any(one.data.get(field) for field in ("undone", "redone", "cleared"))


def _few(faults: list[str]) -> list[str]:
    return faults if len(faults) <= NOTED else [*faults[:NOTED], f"… and {len(faults) - NOTED} more"]
