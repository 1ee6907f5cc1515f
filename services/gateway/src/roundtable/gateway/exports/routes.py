"""HTTP layer: `/rooms/ROOM/…`: exports, with a token for the room (OP4). Knows how to ask services, not how to draw.

Each export counts as a message of its user (LI2). All that an asker gets comes from the services' own queries, which tell each
only what they may see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw, Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from roundtable.common.schema.envelope import ErrorMessage, to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage
from roundtable.common.schema.methods import METHODS
from roundtable.common.telemetry import CONTEXT

from ..session import Ask
from ..transports.entrance import Admitted, enter
from .studio import Kind, Studio

if TYPE_CHECKING:
    from ..service import Gateway

PAGE: Final = 200
TRIES: Final = 3
"""For a page in the middle of an export; the service itself is given 5 s each time."""
BEFORE_ALL: Final = "0"
"""As an activity's id: before every other."""
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
MEDIA: Final = {
    "canvas.json": "application/json",
    "canvas.svg": "image/svg+xml",
    "canvas.png": "image/png",
    "activity.jsonl": "application/jsonl",
}
Endpoint = Callable[[Request], Awaitable[Response]]


class _Entry(Struct):
    id: str


class _Page(Struct):
    activities: list[Raw]
    more: bool


class CutShort(Exception):
    """An export that has begun cannot go on; its connection ends without the end of the body, so nobody takes it for whole."""


def export_routes(gateway: Gateway) -> list[Route]:
    studio = Studio(gateway.settings.max_exports, gateway.settings.export_seconds)

    async def admit(request: Request) -> Admitted:
        admitted = await enter(gateway, request, request.path_params["room"])
        CONTEXT.set({"room": admitted.room})
        bucket = gateway.hub.bucket(admitted.claims.user_id)
        wait = bucket.take(gateway.now()) if bucket is not None else 0.0
        if wait:
            raise Refusal("rate_limited", f"Too many messages; wait {wait:.1f} s", retry_after=wait)
        return admitted

    def canvas(name: str, kind: Kind | None) -> Endpoint:
        async def serve(request: Request) -> Response:
            admitted = await admit(request)
            async with studio.place():
                state = bytes(await _query(gateway, admitted, "canvas.state", {}))
                content = await studio.draw(kind, state) if kind else state
            return Response(content, headers=_headers(admitted, name))

        return serve

    async def activity(request: Request) -> Response:
        admitted = await admit(request)
        async with studio.place():
            first = await _feed(
                gateway, admitted, BEFORE_ALL
            )  # what can go wrong goes wrong before the status
        lines = _lines(gateway, studio, admitted, first)
        return StreamingResponse(lines, headers=_headers(admitted, "activity.jsonl"))

    endpoints: dict[str, Endpoint] = {
        "canvas.json": canvas("canvas.json", None),
        "canvas.svg": canvas("canvas.svg", "svg"),
        "canvas.png": canvas("canvas.png", "png"),
        "activity.jsonl": activity,
    }
    return [Route(f"/rooms/{{room}}/{name}", endpoint) for name, endpoint in endpoints.items()]


def _headers(admitted: Admitted, name: str) -> dict[str, str]:
    filename = f"{admitted.room}-{name}"
    return {
        **HEADERS,
        "Content-Type": MEDIA[name],
        "Content-Disposition": f'inline; filename="{filename}"',
    }


async def _query(gateway: Gateway, admitted: Admitted, name: str, params: dict[str, Any]) -> Raw:
    """The answer as the asker would get it in a connection. Raises `Refusal`."""
    claims = admitted.claims
    command = CommandMessage(name, to_json(params), claims.user_id, claims.username, admitted.role)
    async with gateway.hub.live(admitted.room) as room:
        message = await gateway.commands.ask(room, Ask(METHODS[name], command, answered=True))
    if isinstance(message, ErrorMessage):
        raise Refusal.of(message.error)
    return message.data


async def _feed(gateway: Gateway, admitted: Admitted, after: str) -> _Page:
    data = await _query(gateway, admitted, "activity.list", {"after": after, "limit": PAGE})
    return msgspec.json.decode(data, type=_Page)


async def _lines(gateway: Gateway, studio: Studio, admitted: Admitted, page: _Page) -> AsyncIterator[bytes]:
    """The feed from its beginning, a page in memory at a time. A slow reader holds no place in the studio."""
    while page.activities:
        yield b"".join(bytes(each) + b"\n" for each in page.activities)
        if not page.more:
            return
        last = msgspec.json.decode(page.activities[-1], type=_Entry).id
        page = await _next(gateway, studio, admitted, last)
    if page.more:
        raise CutShort("nothing that the asker may see is near enough to be found")


async def _next(gateway: Gateway, studio: Studio, admitted: Admitted, last: str) -> _Page:
    for number in range(1, TRIES + 1):
        try:
            async with studio.place():
                return await _feed(gateway, admitted, last)
        except Refusal as refusal:
            if number == TRIES or refusal.kind.advice != "backoff":
                raise CutShort(str(refusal)) from refusal
            await asyncio.sleep(0.2 * 2**number)
    raise AssertionError("unreachable")
