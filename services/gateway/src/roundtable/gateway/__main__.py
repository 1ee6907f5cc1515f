"""Starts the gateway: `python -m roundtable.gateway`."""

from __future__ import annotations

import contextlib
import resource

from roundtable.common.domain_service import Stop
from roundtable.common.runtime import Process, main

from .app import application
from .auth import Authenticator
from .auth_routes import auth_routes
from .config import GatewaySettings
from .identity import Identity
from .jwks import JwksSource
from .service import Gateway
from .sessions import SessionStore
from .transports.http_protocol import protocol_class
from .transports.websocket_protocol import WebSocketProtocol


async def start(process: Process[GatewaySettings]) -> Stop:
    settings = process.settings
    settings.check()
    _raise_file_limit()
    keys = JwksSource(settings.jwks, development=settings.development) if settings.jwks else None
    authenticator = Authenticator(
        settings.jwt_secret,
        keys,
        settings.jwt_issuer,
        settings.jwt_audience,
        development=settings.development,
    )
    sessions = SessionStore(
        process.client,
        lambda session: gateway.end_session(session),  # noqa: PLW0108 - it is made below
        refresh_days=settings.refresh_days,
    )
    identity = Identity(authenticator, keys, sessions, guests=settings.dev_auth)
    gateway = Gateway(process, identity)
    gateway.metrics.age("revocations", lambda: sessions.revocations.age)
    if keys is not None:
        gateway.metrics.age("keys", lambda: keys.age)
        await keys.start()
    await gateway.start()
    # In development whoever tests gets as many tokens as they like.
    auth_limit = 0 if settings.dev_auth else settings.auth_requests_per_minute
    routes = [
        *process.ops_routes(),
        *auth_routes(
            identity,
            dev_auth=settings.dev_auth,
            requests_per_minute=auth_limit,
            body_limit=settings.message_bytes,
            body_seconds=settings.body_timeout,
            check_origin=gateway.check_origin,
        ),
    ]
    await process.serve(
        application(gateway, routes),
        http=protocol_class(settings.header_timeout, settings.message_bytes),
        ws=WebSocketProtocol,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        backlog=4096,
    )

    async def stop() -> None:
        await gateway.drain()
        if keys is not None:
            await keys.stop()

    return stop


def _raise_file_limit() -> None:
    """As many connections as the machine allows: a connection is an open file."""
    with contextlib.suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main("gateway", GatewaySettings, start, echo=False)
