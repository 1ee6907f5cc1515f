"""Schema layer: `session.*`, `auth.*` and `heartbeat`: what the gateway says and answers by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .basics import Input, Milliseconds, Output, Role, UserId

Transport = Literal["websocket", "sse", "poll"]


class Limits(Output, frozen=True):
    """The limits of this connection, told in its welcome."""

    message_bytes: int
    messages_per_minute: int
    cursor_hz: int


class Server(Output, frozen=True):
    name: str
    version: str


class Welcome(Output, frozen=True, omit_defaults=False):
    """`session.welcome`: the first event of every connection (CO7)."""

    connection_id: str
    user_id: str
    username: str
    role: Role
    room: str
    transport: Transport
    cursor: str
    recovered: bool
    token_expires_at: Milliseconds | None
    """None for a development guest, who has no token."""
    heartbeat_interval: int
    """Milliseconds."""
    limits: Limits
    server: Server


class CursorMoved(Output, frozen=True):
    """`session.cursor`: something happened that this client may not see; only its cursor moves (RS5)."""


class TokenExpiring(Output, frozen=True):
    """`session.token_expiring`: time to refresh (AU3)."""

    expires_at: Milliseconds


Token = Annotated[str, Meta(min_length=1, max_length=16_384)]


class Login(Input, frozen=True):
    """`auth.login` and `auth.refresh`: a token in the connection."""

    token: Token


class LoggedIn(Output, frozen=True, omit_defaults=False):
    """Answer to `auth.login` and `auth.refresh`."""

    user_id: str
    username: str
    role: Role
    token_expires_at: Milliseconds | None


class Heartbeat(Input, frozen=True):
    """`heartbeat`: a client's latency measure; it takes no parameters."""


class HeartbeatAnswer(Output, frozen=True):
    server_time: Milliseconds


class TokenRequest(Input, frozen=True):
    """Body of `POST /auth/token`, in development only (AU5)."""

    username: Annotated[str, Meta(min_length=1, max_length=64)]
    user_id: UserId | None = None
    room: Annotated[str, Meta(pattern=r"^(?:\*|[A-Za-z0-9_-]{1,64})\Z")] | None = None
    """A room's name, or `*` for all rooms, as when it is left out."""
    role: Role = "player"
    ttl: Annotated[int, Meta(ge=1, le=31 * 86_400)] | None = None
    """Seconds."""


class RefreshRequest(Input, frozen=True):
    """Body of `POST /auth/refresh` (AU4)."""

    refresh_token: Token


class Tokens(Output, frozen=True, omit_defaults=False):
    """Answer of `POST /auth/token` and `/auth/refresh`."""

    token: str
    refresh_token: str
    expires_at: Milliseconds


class Ticket(Output, frozen=True, omit_defaults=False):
    """Answer of `POST /auth/ticket`: good once, within 30 s (AU2)."""

    ticket: str
    expires_at: Milliseconds


class Claims(Struct, frozen=True):
    """Who a verified token says that its bearer is (AU1)."""

    user_id: str
    username: str
    rooms: dict[str, Role]
    """Room to role; `"*"` is any room."""
    expires_at: int | None
    """Milliseconds; None for a development guest."""
    session: str
    """`sid`, or else `jti`: what a logout or a revocation ends; empty when the token names none."""
    default_room: str | None = None
    """The token's `room` claim, unless it is `"*"` (CO2)."""

    life_ms: float = float("inf")
    """The token's whole life when it came to us, in milliseconds."""

    def role_in(self, room: str) -> Role | None:
        return self.rooms.get(room) or self.rooms.get("*")
