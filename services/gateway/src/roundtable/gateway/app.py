"""Shell layer: the gateway's HTTP side as one Starlette application: which path is whose."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

from .errors_http import EXCEPTION_HANDLERS
from .exports.routes import export_routes
from .service import Gateway
from .specs import spec_routes
from .transports import poll, rpc, sse, websocket
from .web import web_routes


def application(gateway: Gateway, routes: Sequence[BaseRoute]) -> Starlette:
    """`routes`: those that need more than the gateway."""
    serve_socket = websocket.endpoint(gateway)
    # Pages of other hosts on the allow list may use fetch; those of our own need no leave.
    sharing = Middleware(
        CORSMiddleware,
        allow_origins=[each.lower().rstrip("/") for each in gateway.settings.allowed_origins],
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "Accept"],
        expose_headers=["Content-Disposition", "Retry-After"],
        max_age=600,
    )

    app = Starlette(
        routes=[
            WebSocketRoute("/", serve_socket),
            WebSocketRoute("/ws", serve_socket),
            *web_routes(),
            *spec_routes(),
            Route("/sse", sse.endpoint(gateway)),
            Route("/poll", poll.endpoint(gateway)),
            Route("/rpc", rpc.endpoint(gateway), methods=["POST"]),
            *export_routes(gateway),
            *routes,
        ],
        middleware=[sharing],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.state.count_refusal = lambda reason: gateway.metrics.refusals.labels(reason, "http").inc()
    return app
