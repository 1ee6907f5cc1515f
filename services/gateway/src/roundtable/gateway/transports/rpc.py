"""Transport layer: `POST /rpc`: requests of whoever reads by SSE or polls; any gateway takes any of them (CO3, CO4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from roundtable.common.schema.canvas import Preview
from roundtable.common.schema.envelope import ErrorMessage, Format, decode_client, encode, is_batch, to_json
from roundtable.common.schema.envelope import Response as Answer
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.presence import MoveCursor
from roundtable.common.schema.session import LoggedIn
from roundtable.common.telemetry import CONTEXT

from ..commands import error_message
from ..errors_http import read_body
from ..room import Room
from ..session import Ask, Authenticate, Effect, End, Refuse, Reply, Session
from .entrance import Admitted, connection_id, enter

if TYPE_CHECKING:
    from ..service import Gateway

MEDIA: Final[dict[str, Format]] = {
    "application/json": "json",
    "application/msgpack": "msgpack",
    "application/x-msgpack": "msgpack",
    "application/vnd.msgpack": "msgpack",
}
MEDIA_OF: Final[dict[Format, str]] = {"json": "application/json", "msgpack": "application/msgpack"}


def endpoint(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    async def rpc(request: Request) -> Response:
        fmt = _format(request)
        admitted = await enter(gateway, request)
        named = connection_id(request)
        body = await read_body(request, gateway.settings.message_bytes, gateway.settings.body_timeout)
        decode_client(body, fmt)  # a body that cannot be read fails as a whole
        CONTEXT.set({"connection": named, "room": admitted.room})
        session = Session(
            named,
            admitted.room,
            "sse",
            admitted.claims,
            admitted.role,
            gateway.hub.bucket(admitted.claims.user_id),
            gateway.hub.refusals(admitted.claims.user_id),
        )
        at = gateway.now_ms()
        answers: list[Answer | ErrorMessage] = []
        async with gateway.hub.live(admitted.room) as room:
            effects = session.receive(body, fmt, gateway.now(), at)
            gateway.metrics.received("rpc", len(effects), len(body))
            for effect in effects:
                answer = await _do(gateway, room, admitted, named, effect)
                if answer is not None:
                    answers.append(answer)
            room.seen[admitted.claims.user_id] = gateway.now()
        response = _response(answers, fmt, batch=is_batch(body, fmt))
        if gateway.draining:  # what comes next finds another gateway
            response.headers["Connection"] = "close"
        return response

    return rpc


def _format(request: Request) -> Format:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in MEDIA or request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal("unsupported_data", "`Content-Type` is application/json or application/msgpack")
    return MEDIA[media]


async def _do(
    gateway: Gateway, room: Room, admitted: Admitted, named: str, effect: Effect
) -> Answer | ErrorMessage | None:
    match effect:
        case Ask():
            message = await gateway.commands.ask(room, effect)
            return message if effect.answered or isinstance(message, ErrorMessage) else None
        case Reply(ident, method, data):
            gateway.metrics.replied(method)
            return Answer(ident, method, data, gateway.now_ms()) if ident else None
        case Refuse(refusal, ident, method):
            gateway.metrics.refused(method, refusal)
            return error_message(refusal, ident, method)
        case MoveCursor() | Preview():
            room.show(admitted.claims.user_id, effect)
        case Authenticate(ident, method, token):
            return await _authenticate(gateway, admitted, named, ident, method, token)
        case End(refusal):
            gateway.end_connection(named, admitted.claims.user_id, refusal)
    return None


async def _authenticate(
    gateway: Gateway, admitted: Admitted, named: str, ident: str, method: str, token: str
) -> Answer | ErrorMessage:
    """A new token for a connection at whichever gateway (AU3)."""
    try:
        claims = await gateway.identity.of_token(token)
        if claims.user_id != admitted.claims.user_id:
            raise Refusal("forbidden", "The token is another user's")
        role = claims.role_in(admitted.room)
        if role is None:
            raise Refusal("forbidden", "The token is not good for this room")
        if named:
            await gateway.renew_anywhere(named, claims)
    except Refusal as refusal:
        return error_message(refusal, ident, method)
    answer = LoggedIn(claims.user_id, claims.username, role, claims.expires_at)
    return Answer(ident, method, to_json(answer), gateway.now_ms())


def _response(answers: list[Answer | ErrorMessage], fmt: Format, *, batch: bool) -> Response:
    """One message for one, an array for a batch; events that went well leave nothing to say: an empty array."""
    if not batch and answers:
        content = encode(answers[0], fmt)
    else:
        items = [Raw(encode(answer, fmt)) for answer in answers]
        codec: Any = msgspec.json if fmt == "json" else msgspec.msgpack
        content = codec.encode(items)
    return Response(content, headers={"Content-Type": MEDIA_OF[fmt], "Cache-Control": "no-store"})
