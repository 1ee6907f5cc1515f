"""Transport layer: the table page as it was built into `dist/`. Knows no gateway: the page is a client like any other.

`make clients` builds it from `clients/table`. What stands under `/static/` has a hash of itself in its name, so it may be
kept for ever; the page names what belongs to it, and is asked for anew each time.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PAGE: Final = "index.html"
BUILT: Final = resources.files(__name__).joinpath("dist")

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PACKED: Final = ".gz"
_NOT_BUILT: Final = """\
<!doctype html>
<html lang="en">
  <head><meta charset="utf-8"><title>Roundtable</title></head>
  <body>
    <h1>Roundtable</h1>
    <p>The table runs, but its page is not built. Build it with <code>make clients</code> (it needs Node.js 20 or newer
      with npm), and start the table again. Other clients can already connect.</p>
  </body>
</html>
"""

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
_ASK: Final = "no-cache"  # keep it, but ask: a new version is there at once, and an old one costs no bytes
_KEEP: Final = "public, max-age=31536000, immutable"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{sockets};"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


class _File(NamedTuple):
    body: bytes
    packed: bytes | None
    """The same, gzipped at the build."""
    media: str
    etag: str


def web_routes(built: Traversable = BUILT) -> list[Route]:
    """`/`, and `/static/…` for every other file that the page needs; read once, here."""
    served = _read(built)
    page = served.pop(PAGE, None) or _file(PAGE, _NOT_BUILT.encode(), None)
    return [
        Route("/", _page(page)),
        *(Route(f"/static/{name}", _static(file)) for name, file in served.items()),
    ]


def _read(built: Traversable) -> dict[str, _File]:
    if not built.is_dir():
        return {}
    found = {path.name: path.read_bytes() for path in built.iterdir() if path.is_file()}
    return {
        name: _file(name, body, found.get(name + _PACKED))
        for name, body in sorted(found.items())
        if _ending(name) in _TYPES
    }


def _file(name: str, body: bytes, packed: bytes | None) -> _File:
    return _File(body, packed, _TYPES[_ending(name)], sha256(body).hexdigest()[:16])


def _ending(name: str) -> str:
    return name[name.rfind(".") :]


def policy(host: str) -> str:
    """The content security policy. Older browsers do not count our own sockets to `'self'`, so they are named."""
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return _POLICY.format(sockets=sockets)


def _page(file: _File) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        headers = {"Content-Security-Policy": policy(request.headers.get("host", "")), "Cache-Control": _ASK}
        return _response(request, file, headers)

    return serve


def _static(file: _File) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return _response(request, file, {"Cache-Control": _KEEP})

    return serve


def _response(request: Request, file: _File, more: dict[str, str]) -> Response:
    packed = file.packed if _takes_gzip(request.headers.get("accept-encoding", "")) else None
    etag = f'"{file.etag}-gzip"' if packed is not None else f'"{file.etag}"'
    headers = {**_HEADERS, **more, "ETag": etag}
    known = request.headers.get("if-none-match", "")
    if etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = file.media
    if packed is not None:
        headers["Content-Encoding"] = "gzip"
    return Response(file.body if packed is None else packed, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    offers = (part.replace(" ", "").lower().partition(";q=") for part in accepted.split(","))
    return any(name == "gzip" and (not weight or weight.strip("0.") != "") for name, _, weight in offers)
