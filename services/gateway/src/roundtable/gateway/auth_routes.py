"""HTTP layer: `/auth/token`, `/auth/ticket`, `/auth/refresh` and `/auth/logout` (AU2, AU4, AU5). Knows no rooms or connections.

Endpoints raise `Refusal`; the application must have the handlers of `errors_http`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roundtable.common.config import ConfigError
from roundtable.common.schema.basics import clean_name
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.session import Claims, RefreshRequest, Ticket, TokenRequest, Tokens

from .auth import has_control
from .errors_http import BODY_LIMIT, BODY_SECONDS, json_response, read_json
from .identity import Identity, credentials_of
from .ratelimit import TokenBucket
from .sessions import Grant

TOKEN_S: Final = 3_600
"""Life of a development token that asks for no other, in seconds."""
_MAX_ADDRESSES: Final = 10_000


def client_address(request: Request) -> str:
    """The peer's address; behind a proxy the gateway has to say better."""
    return request.client.host if request.client is not None else ""


class AddressLimit:
    """A token bucket for each client address; an IPv6 client is its /64, of which it has all addresses to choose from."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, address: str) -> None:
        """Raises `Refusal` (rate_limited)."""
        if not self._per_minute:
            return
        now, name = self._clock(), _network(address)
        bucket = self._buckets.pop(name, None)
        if bucket is None:
            bucket = TokenBucket(self._per_minute, self._per_minute, now)
            if len(self._buckets) >= _MAX_ADDRESSES:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[name] = bucket  # at the end: the first one has been quiet for longest
        wait = bucket.take(now)
        if wait:
            raise Refusal("rate_limited", f"Too many requests; wait {wait:.0f} s", retry_after=wait)


def _network(address: str) -> str:
    try:
        ip = ip_address(address)
    except ValueError:
        return address[:64]
    if not isinstance(ip, IPv6Address):
        return address
    return str(ip.ipv4_mapped or int(ip) >> 64)


def auth_routes(
    identity: Identity,
    *,
    dev_auth: bool,
    requests_per_minute: int = 60,
    token_s: int = TOKEN_S,
    body_limit: int = BODY_LIMIT,
    body_seconds: float = BODY_SECONDS,
    address_of: Callable[[Request], str] = client_address,
    check_origin: Callable[[str | None, str | None], None] = lambda *_: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Route]:
    """The routes. Raises `ConfigError` if development tokens are wanted and there is no secret to sign them with.

    `check_origin` is given the headers `Origin` and `Host`, and raises `Refusal` for a page that may not ask (AU6).
    """
    authenticator, sessions = identity.authenticator, identity.sessions
    limit = AddressLimit(requests_per_minute, clock)
    if dev_auth and not authenticator.can_issue:
        raise ConfigError("ROUNDTABLE_DEV_AUTH=1 needs ROUNDTABLE_JWT_SECRET, to sign its tokens with")

    def admit(request: Request) -> None:
        check_origin(request.headers.get("origin"), request.headers.get("host"))
        limit.take(address_of(request))

    def tokens(grant: Grant) -> Response:
        token, expires_at = authenticator.issue(grant.claims, grant.ttl_s)
        return json_response(Tokens(token, grant.refresh_token, expires_at))

    def bearer(request: Request) -> str:
        credentials = credentials_of(request.headers)
        if credentials is None:
            raise Refusal("auth_required", "Send a token as `Authorization: Bearer`")
        return credentials.secret

    async def token(request: Request) -> Response:
        admit(request)
        if not dev_auth:
            raise Refusal("unknown_method", "This server issues no tokens: they come from whoever runs it")
        wanted = await read_json(request, TokenRequest, body_limit, body_seconds)
        return tokens(await sessions.start_family(_claims(wanted), wanted.ttl or token_s))

    async def refresh(request: Request) -> Response:
        admit(request)
        if not authenticator.can_issue:
            raise Refusal("unknown_method", "This server issues no tokens: refresh them where they came from")
        wanted = await read_json(request, RefreshRequest, body_limit, body_seconds)
        return tokens(await sessions.rotate(wanted.refresh_token))

    async def ticket(request: Request) -> Response:
        admit(request)
        claims = await identity.of_token(bearer(request))
        return json_response(Ticket(*await sessions.issue_ticket(claims)))

    async def logout(request: Request) -> Response:
        """Again for the same session: 204 again, as the first answer may have been lost."""
        admit(request)
        claims = await identity.verified(bearer(request))
        if not claims.session:
            raise Refusal("invalid_data", "The token has neither `sid` nor `jti`: it names no session to end")
        await sessions.revoke(claims.session, claims.expires_at)
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    endpoints = {"token": token, "ticket": ticket, "refresh": refresh, "logout": logout}
    return [Route(f"/auth/{name}", endpoint, methods=["POST"]) for name, endpoint in endpoints.items()]


def _claims(wanted: TokenRequest) -> Claims:
    """Raises `Refusal` (invalid_data). Without a `userId` it is a new user each time; without a room, one for all rooms."""
    user_id = wanted.user_id or f"user-{secrets.token_hex(4)}"
    if has_control(user_id):
        raise Refusal("invalid_data", "Expected no control characters - at `userId`")
    room = wanted.room or "*"
    return Claims(
        user_id=user_id,
        username=clean_name(wanted.username, user_id),
        rooms={room: wanted.role},
        expires_at=None,
        session="",
        default_room=None if room == "*" else room,
    )
