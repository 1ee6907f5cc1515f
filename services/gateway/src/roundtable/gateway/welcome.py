"""Shell layer: the first event of every connection, whatever the transport (CO7), and the notice before a token's end (AU3)."""

from __future__ import annotations

from typing import Final

from roundtable.common import VERSION
from roundtable.common.command_handler import now_ms
from roundtable.common.cursor import Vector
from roundtable.common.schema.basics import Role
from roundtable.common.schema.envelope import ServerEvent, to_json
from roundtable.common.schema.session import Claims, Limits, Server, TokenExpiring, Transport, Welcome

from .config import GatewaySettings
from .room import Room

EXPIRY_NOTICE_MS: Final = 60_000


def welcome(
    settings: GatewaySettings,
    room: Room,
    place: Vector,
    connection: str,
    transport: Transport,
    claims: Claims,
    role: Role,
    *,
    recovered: bool,
) -> ServerEvent:
    said = Welcome(
        connection_id=connection,
        user_id=claims.user_id,
        username=claims.username,
        role=role,
        room=room.name,
        transport=transport,
        cursor=room.cursor_at(place),
        recovered=recovered,
        token_expires_at=claims.expires_at,
        heartbeat_interval=int(settings.heartbeat_seconds * 1000),
        limits=Limits(settings.message_bytes, settings.messages_per_minute, settings.cursor_hz),
        server=Server("roundtable", VERSION),
    )
    return ServerEvent("session.welcome", to_json(said), now_ms(), said.cursor)


def notice_ms(claims: Claims) -> float:
    """How long before its end a token's bearer is told: 60 s, or a third of the token's life if that is less."""
    return min(EXPIRY_NOTICE_MS, claims.life_ms / 3)


def token_expiring(expires_at: int) -> ServerEvent:
    return ServerEvent("session.token_expiring", to_json(TokenExpiring(expires_at)), now_ms())
