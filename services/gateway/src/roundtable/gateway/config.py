"""Shell layer: the gateway's settings; see `roundtable.common.config` for how they are read."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from roundtable.common.config import ConfigError, Settings


class GatewaySettings(Settings, frozen=True, kw_only=True):
    jwt_secret: Annotated[str, Meta(description="Shared secret of HS256 tokens, at least 32 bytes")] = ""
    jwks: Annotated[str, Meta(description="File or URL of the JWKS for RS256, ES256 and EdDSA tokens")] = ""
    jwt_issuer: Annotated[str, Meta(description="`iss` that a token must have")] = ""
    jwt_audience: Annotated[str, Meta(description="`aud` that a token must have")] = ""
    dev_auth: Annotated[bool, Meta(description="Guests and `POST /auth/token`; in development only")] = False
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Origins of pages that may connect, separated by commas; empty: the same host; `*`: any"
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Addresses or networks whose `X-Forwarded-For` is believed, separated by commas"),
    ] = ()
    messages_per_minute: Annotated[
        int, Meta(ge=0, description="Messages a minute for each user (LI2); 0: no limit")
    ] = 100
    cursor_hz: Annotated[
        int,
        Meta(ge=0, le=1_000, description="Cursors and previews a second for each user (PR4); 0: no limit"),
    ] = 60
    message_bytes: Annotated[
        int, Meta(ge=1_024, le=1_048_576, description="Bytes of one message, inflated (LI1)")
    ] = 65_536
    max_connections_per_user: Annotated[
        int, Meta(ge=0, description="Connections of one user at this gateway (LI3); 0: no limit")
    ] = 20
    max_connections_per_address: Annotated[
        int, Meta(ge=0, description="Connections from one address at this gateway (LI3); 0: no limit")
    ] = 50
    max_connections: Annotated[
        int, Meta(ge=0, description="Connections at this gateway in all; 0: no limit")
    ] = 0
    max_connection_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=604_800,
            description="Age at which a WebSocket or SSE connection is sent elsewhere at the latest, and at three"
            " quarters of it at the earliest, so that new gateways get their share (CO10); 0: none",
        ),
    ] = 0.0
    max_polls: Annotated[int, Meta(ge=1, description="Polls that may wait at this gateway at once")] = 10_000
    heartbeat_seconds: Annotated[
        float, Meta(gt=0, le=3_600, description="Interval of pings and heartbeats (CO9)")
    ] = 30.0
    auth_timeout: Annotated[
        float, Meta(gt=0, le=300, description="Seconds for a first message `auth.login` (AU2)")
    ] = 10.0
    header_timeout: Annotated[
        float, Meta(gt=0, le=300, description="Seconds for the headers of a request")
    ] = 10.0
    body_timeout: Annotated[float, Meta(gt=0, le=300, description="Seconds for the body of a request")] = 10.0
    slow_bytes: Annotated[int, Meta(ge=65_536, description="Bytes that may wait for a slow reader (RS8)")] = (
        1_048_576
    )
    tick_ms: Annotated[
        float, Meta(ge=0, le=1_000, description="Least time between two joined writes of cursors in a room")
    ] = 8.0
    ring_events: Annotated[
        int, Meta(ge=0, description="Recent events of each live room that are kept for reconnects")
    ] = 512
    ring_bytes: Annotated[int, Meta(ge=0, description="Their bytes at most")] = 524_288
    replay_events: Annotated[
        int, Meta(ge=1, description="Events that a cursor may lie back before a snapshot is sent instead")
    ] = 100_000
    room_linger: Annotated[
        float, Meta(ge=0, description="Seconds that a room stays live after its last connection left")
    ] = 15.0
    audit_seconds: Annotated[
        float, Meta(gt=0, description="Interval at which a quiet room is compared with the logs (RS4)")
    ] = 15.0
    refresh_days: Annotated[
        float, Meta(gt=0, le=366, description="Days that a refresh token lives after its last use (AU4)")
    ] = 30.0
    max_exports: Annotated[
        int, Meta(ge=1, le=64, description="Exports of rooms that are made at once (OP4); others wait")
    ] = 2
    export_seconds: Annotated[
        float, Meta(gt=0, le=600, description="Seconds that the making of one may take")
    ] = 30.0
    auth_requests_per_minute: Annotated[
        int, Meta(ge=0, description="`/auth/*` requests a minute from one address; 0: no limit")
    ] = 60

    @property
    def development(self) -> bool:
        return self.environment == "development" or (self.dev_auth and not self.environment)

    def check(self) -> None:
        """Raises `ConfigError` for settings that contradict each other."""
        if self.dev_auth and not self.development:
            raise ConfigError(
                "ROUNDTABLE_DEV_AUTH=1 lets anybody in: it needs ROUNDTABLE_ENVIRONMENT=development"
                f" (it is {self.environment!r})"
            )
        if not (self.jwt_secret or self.jwks):
            raise ConfigError("set ROUNDTABLE_JWT_SECRET or ROUNDTABLE_JWKS, by which tokens are checked")
        if self.jwt_secret and len(self.jwt_secret.encode()) < 32 and not self.development:
            raise ConfigError("ROUNDTABLE_JWT_SECRET is too short: HS256 wants at least 32 bytes")
