"""Shell layer: the gateway's own description, for whoever writes a client: `/asyncapi.json` and `/openapi.json`.

Computed from the schema at start, so that what is served can be no other than what is checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roundtable.common.codegen.asyncapi import asyncapi
from roundtable.common.codegen.openapi import openapi

_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",  # nothing secret: viewers on other hosts may read it
}


def spec_routes() -> list[Route]:
    return [Route("/asyncapi.json", _document(asyncapi())), Route("/openapi.json", _document(openapi()))]


def _document(document: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
    body = msgspec.json.encode(document)
    headers = {**_HEADERS, "ETag": f'"{sha256(body).hexdigest()[:16]}"'}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    return serve
