"""Shell layer: the gateway's HTTP side as one Starlette application: which path is whose."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from .errors_http import EXCEPTION_HANDLERS
from .service import Gateway
from .transports import poll, rpc, sse, websocket
from .web import page


def application(gateway: Gateway, routes: Sequence[BaseRoute]) -> Starlette:
    """`routes`: those that need more than the gateway."""
    serve_socket = websocket.endpoint(gateway)
    # Pages of other hosts on the allow list may use fetch; those of our own need no leave.
    sharing = Middleware(
        CORSMiddleware,
        allow_origins=gateway.settings.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "Accept"],
        expose_headers=["Retry-After"],
        max_age=600,
    )

    async def table(_: Request) -> Response:
        return page()

    return Starlette(
        routes=[
            WebSocketRoute("/", serve_socket),
            WebSocketRoute("/ws", serve_socket),
            Route("/", table),
            Route("/sse", sse.endpoint(gateway)),
            Route("/poll", poll.endpoint(gateway)),
            Route("/rpc", rpc.endpoint(gateway), methods=["POST"]),
            *routes,
        ],
        middleware=[sharing],
        exception_handlers=EXCEPTION_HANDLERS,
    )
