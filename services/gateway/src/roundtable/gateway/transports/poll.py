"""Transport layer: long poll: each answer holds what came after the request's cursor, which is thereby an acknowledgement.

A connection is what its polls have in common: its id. Its presence lives while a poll waits and ten seconds after, at whichever
gateway the latest poll came to (PR1, CO4). An answer that was lost is asked for again with the same cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from roundtable.common.cursor import Vector
from roundtable.common.schema.envelope import Format, ServerEvent, SSEEvent, pack
from roundtable.common.schema.errors import Refusal
from roundtable.common.telemetry import CONTEXT

from ..polling import Poller
from ..room import Room
from .entrance import connection_id, enter
from .rpc import MEDIA, MEDIA_OF

if TYPE_CHECKING:
    from ..service import Gateway

TIMEOUT: Final = 25.0
LONGEST: Final = 60.0
"""Seconds that a poll may wait: proxies seldom allow more."""
EVENTS_AT_MOST: Final = 1_000
EPHEMERAL_PAUSE: Final = 0.1
"""Seconds that a poll waits at least before it answers with nothing but cursors and previews."""


class PollAnswer(Struct, frozen=True):
    events: list[SSEEvent]
    cursor: str


class _Found(NamedTuple):
    events: list[ServerEvent]
    place: Vector


def endpoint(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    async def poll(request: Request) -> Response:
        gateway.check_open()
        admitted = await enter(gateway, request)
        if admitted.claims.expires_at is not None and admitted.claims.expires_at <= gateway.now_ms():
            raise Refusal("token_expired")  # the leeway lets somebody in, but keeps nobody here (AU3)
        named, timeout = connection_id(request), _timeout(request)
        CONTEXT.set({"connection": named, "room": admitted.room})
        async with gateway.hub.live(admitted.room) as room:
            poller = await gateway.polling.begin(room, named, admitted)
            gone = asyncio.create_task(_gone(request), name="poll.gone")
            try:
                found = await _events(gateway, room, poller, request, gone, bool(named), timeout)
            finally:
                gone.cancel()
                gateway.polling.end(poller)
            response = _response(room, found, _format(request))
            gateway.metrics.own_messages.value += len(found.events)
            gateway.metrics.own_bytes.value += len(response.body)
            return response

    return poll


async def _gone(request: Request) -> None:
    """Returns when the client no longer waits: then nobody lives there (PR1)."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _timeout(request: Request) -> float:
    text = request.query_params.get("timeout")
    if text is None:
        return TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3_600:
        raise Refusal("invalid_data", "`timeout` is a number of seconds from 0")
    return min(seconds, LONGEST)


def _format(request: Request) -> Format:
    accepted = (
        part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")
    )
    return next((MEDIA[each] for each in accepted if each in MEDIA), "json")


async def _events(
    gateway: Gateway,
    room: Room,
    poller: Poller,
    request: Request,
    gone: asyncio.Task[None],
    known: bool,
    timeout: float,
) -> _Found:
    text = request.query_params.get("cursor") or request.headers.get("last-event-id", "")
    place = await room.recover(text, returning=not known)
    opening: list[ServerEvent] = []
    if place is None:
        opening, place = await poller.open_fresh(room)
    elif not known:
        opening = [poller.welcome(room, place, recovered=True)]
    expiring = poller.expiring(gateway.now_ms())
    patience = min(timeout, poller.heartbeat_s(gateway.now()), poller.token_s(gateway.now_ms()))
    deadline = gateway.now() + patience
    earliest = gateway.now() + EPHEMERAL_PAUSE
    while True:
        if poller.refusal is not None:
            raise poller.refusal
        end = room.vector
        entries = await room.after(place, EVENTS_AT_MOST)
        events = [entry.seen_by(poller.user, poller.role) for entry in entries]
        for entry in entries:
            place = place.moved(entry.service, entry.position)
        now = gateway.now()
        ephemera = poller.take_ephemera(gateway.now_ms()) if events or now >= earliest or opening else []
        if not (opening or events or ephemera or expiring):
            place = room.level(place, end)
            if now < deadline and not poller.ended and not gone.done():
                await poller.wait(room, gone, (earliest if poller.has_ephemera else deadline) - now)
                continue
        beat = poller.heartbeat(now, gateway.now_ms())
        return _Found([*opening, *expiring, *beat, *ephemera, *events], place)


def _response(room: Room, found: _Found, fmt: Format) -> Response:
    events = [SSEEvent(event.method, event.data, event.timestamp, event.id) for event in found.events]
    content = msgspec.json.encode(PollAnswer(events, room.cursor_at(found.place)))
    if fmt == "msgpack":
        content = pack(content)
    return Response(content, headers={"Content-Type": MEDIA_OF[fmt], "Cache-Control": "no-store"})
