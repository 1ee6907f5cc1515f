"""Transport layer: the table page, as files of this package. Knows no gateway: it is a client like any other."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from importlib import resources
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE: Final = "index.html"

_HEADERS: Final = {
    "Cache-Control": "no-cache",  # keep it, but ask: a new version is there at once, and an old one costs no bytes
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{sockets};"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


class _File(NamedTuple):
    body: bytes
    media: str
    etag: str


def web_routes() -> list[Route]:
    """`/`, and `/static/…` for every other file that the page needs; read once, here."""
    files = {
        path.name: path.read_bytes()
        for path in resources.files(__name__).iterdir()
        if path.name != "__pycache__"
    }
    served = {
        name: _File(body, _TYPES[ending], f'"{sha256(body).hexdigest()[:16]}"')
        for name, body in sorted(files.items())
        if (ending := name[name.rfind(".") :]) in _TYPES
    }
    page = served.pop(PAGE)
    return [
        Route("/", _page(page)),
        *(Route(f"/static/{name}", _static(file)) for name, file in served.items()),
    ]


def policy(host: str) -> str:
    """The content security policy. Older browsers do not count our own sockets to `'self'`, so they are named."""
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return _POLICY.format(sockets=sockets)


def _page(file: _File) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        headers = {"Content-Security-Policy": policy(request.headers.get("host", ""))}
        return _response(request, file, headers)

    return serve


def _static(file: _File) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return _response(request, file, {})

    return serve


def _response(request: Request, file: _File, more: dict[str, str]) -> Response:
    headers = {**_HEADERS, **more, "ETag": file.etag}
    known = request.headers.get("if-none-match", "")
    if file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers={**headers, "Content-Type": file.media})
