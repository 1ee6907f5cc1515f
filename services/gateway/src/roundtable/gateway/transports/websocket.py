"""Transport layer: the WebSocket endpoint: subprotocol, identity, room; then the connection has the socket (CO2, CO5, AU2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket

from roundtable.common.schema.envelope import SUBPROTOCOLS, Format, Response, rest_of_batch, to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.session import Claims, LoggedIn
from roundtable.common.telemetry import CONTEXT, log

from ..codecs import Codec, websocket_codec
from ..commands import error_message
from ..errors_http import http_error
from ..identity import BEARER_SUBPROTOCOL, credentials_of, guest_claims
from ..session import Authenticate, Session
from .websocket_protocol import WebSocketProtocol, protocol_of

if TYPE_CHECKING:
    from ..service import Gateway


def endpoint(gateway: Gateway) -> Callable[[WebSocket], Awaitable[None]]:
    async def websocket(socket: WebSocket) -> None:
        offered = [each for each in socket.scope["subprotocols"] if not each.startswith(BEARER_SUBPROTOCOL)]
        chosen = next((each for each in offered if each in SUBPROTOCOLS), None)
        if offered and chosen is None:
            refusal = Refusal("unsupported_data", f"Speak one of the subprotocols {', '.join(SUBPROTOCOLS)}")
            await socket.send_denial_response(http_error(refusal, 400))
            return
        protocol = protocol_of(socket.scope)
        fmt: Format = SUBPROTOCOLS[chosen] if chosen else "json"
        protocol.binary = fmt == "msgpack"
        await socket.receive()
        await socket.accept(chosen)
        try:
            await _serve(gateway, socket, protocol, websocket_codec(fmt, protocol.deflate))
        except Refusal as refusal:
            gateway.metrics.closed.labels(refusal.reason).inc()
            protocol.end(refusal)

    return websocket


async def _serve(gateway: Gateway, socket: WebSocket, protocol: WebSocketProtocol, codec: Codec) -> None:
    """Raises `Refusal` with what the socket is to be closed with."""
    gateway.check_open()
    gateway.check_origin(socket.headers.get("origin"), socket.headers.get("host"))
    gateway.check_room(socket.query_params.get("room"))
    credentials = credentials_of(socket.headers, socket.scope["subprotocols"], socket.query_params)
    claims = await gateway.identity.of(credentials) if credentials is not None else None
    session = Session(gateway.new_connection_id(), "", "websocket", None, "spectator", None)
    login: Authenticate | None = None
    address = socket.client.host if socket.client else ""
    if claims is None:
        with gateway.hub.stranger(address):
            claims, login = await _login(gateway, protocol, codec, session)
    room = gateway.room_for(socket.query_params.get("room"), claims)
    connection = gateway.connect(session, claims, room, protocol, codec, address)
    CONTEXT.set({"connection": session.id, "room": room})
    if login is not None:
        answer = LoggedIn(claims.user_id, claims.username, connection.role, claims.expires_at)
        connection.send(Response(login.id, login.method, to_json(answer), gateway.now_ms()))
    try:
        await connection.join(socket.query_params.get("cursor", ""))
    except BaseException:
        connection.lost()
        raise
    log.debug("connected", user=claims.user_id, transport="websocket")
    protocol.hand_to(connection)


async def _login(
    gateway: Gateway, protocol: WebSocketProtocol, codec: Codec, session: Session
) -> tuple[Claims, Authenticate | None]:
    """Waits for `auth.login`; in development a guest needs none. Raises `Refusal`."""
    settings = gateway.settings
    deadline = gateway.now() + (gateway.GUEST_WAIT if settings.dev_auth else settings.auth_timeout)
    for _ in range(10):
        data = await protocol.first_message(max(0.0, deadline - gateway.now()))
        if data is None:
            break
        if settings.dev_auth and not gateway.is_login(data, codec.format):
            protocol.push_back(data)
            break
        effects = session.receive(data, codec.format, gateway.now(), gateway.now_ms())
        for number, effect in enumerate(effects):
            if isinstance(effect, Authenticate):
                try:
                    claims = await gateway.identity.of_token(effect.token)
                except Refusal as refusal:
                    protocol.write(codec.frame(error_message(refusal, effect.id, effect.method)))
                    raise
                rest = rest_of_batch(data, codec.format, number + 1)
                if rest:
                    protocol.push_back(rest)
                return claims, effect
            for message in gateway.plain_answers((effect,)):
                protocol.write(codec.frame(message))
    if settings.dev_auth:
        return guest_claims(), None
    raise Refusal("auth_timeout", f"No `auth.login` within {settings.auth_timeout:g} s")
