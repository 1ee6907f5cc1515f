"""Shell layer: what a newcomer is shown of a room: three snapshots in pages, and the place at which they are true (CO8)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from roundtable.common.command_handler import now_ms
from roundtable.common.cursor import Vector
from roundtable.common.schema.basics import Role
from roundtable.common.schema.envelope import ServerEvent, to_json
from roundtable.common.schema.log import CommandMessage
from roundtable.common.schema.presence import PresenceList

from .commands import Commands
from .room import Pages, Room

PAGE_BYTES: Final = 256 * 1024 - 512
"""Of a page's items; the rest is its envelope."""
LATEST: Final = 50


class Viewer(NamedTuple):
    """Who looks."""

    user: str
    role: Role
    connection: str


class Snapshot(NamedTuple):
    vector: Vector
    events: list[ServerEvent]


class _Operations(Struct):
    operations: list[Raw]


class _Activities(Struct):
    activities: list[Raw]


def pages_of(field: str, items: Iterable[Raw], size: int = PAGE_BYTES) -> tuple[Raw, ...]:
    """`{field: […], more}` objects of at most `size` bytes of items each; at least one item a page, at least one page."""
    pages: list[list[bytes]] = [[]]
    room = size
    for item in map(bytes, items):
        if len(item) + 1 > room and pages[-1]:
            pages.append([])
            room = size
        pages[-1].append(item)
        room -= len(item) + 1
    name = field.encode()
    last = len(pages) - 1
    return tuple(
        Raw(b'{"%b":[%b],"more":%b}' % (name, b",".join(page), b"true" if number < last else b"false"))
        for number, page in enumerate(pages)
    )


async def take(room: Room, commands: Commands, viewer: Viewer) -> Snapshot:
    """The room as the viewer may see it. Raises `Refusal`."""
    canvas, presence, activity = await asyncio.gather(
        _canvas(room, commands, viewer), _presence(room, commands, viewer), _activity(room, commands, viewer)
    )
    at = now_ms()
    events = [
        ServerEvent(f"{service}.snapshot", data, at)
        for service, pages in (("canvas", canvas), ("presence", presence), ("activity", activity))
        for data in pages.data
    ]
    return Snapshot(Vector(canvas.position, presence.position, activity.position), events)


async def _canvas(room: Room, commands: Commands, viewer: Viewer) -> Pages:
    """The same for everybody, so many newcomers at once share one: any that holds all that the room had told when they came."""
    wanted = room.vector.canvas
    while True:
        if room.pages is not None and room.pages.position >= wanted:
            return room.pages
        if room.paging is None:
            room.paging = asyncio.create_task(_fetch_canvas(room, commands, viewer), name="canvas.snapshot")
        await asyncio.shield(room.paging)


async def _fetch_canvas(room: Room, commands: Commands, viewer: Viewer) -> Pages:
    try:
        data, position = await commands.call("canvas", room.name, _query("canvas.state", {}, viewer))
        room.pages = Pages(
            position, pages_of("operations", msgspec.json.decode(data, type=_Operations).operations)
        )
        return room.pages
    finally:
        room.paging = None


async def _presence(room: Room, commands: Commands, viewer: Viewer) -> Pages:
    data, position = await commands.call("presence", room.name, _query("presence.list", {}, viewer))
    people = msgspec.json.decode(data, type=PresenceList).presence
    shown = (to_json(commands.presence_now(room, each)) for each in people)
    return Pages(position, pages_of("presence", shown))


async def _activity(room: Room, commands: Commands, viewer: Viewer) -> Pages:
    query = _query("activity.list", {"limit": LATEST}, viewer)
    data, position = await commands.call("activity", room.name, query)
    return Pages(position, pages_of("activities", msgspec.json.decode(data, type=_Activities).activities))


def _query(method: str, params: dict[str, int], viewer: Viewer) -> CommandMessage:
    return CommandMessage(method, to_json(params), viewer.user, "", viewer.role, "", viewer.connection)
