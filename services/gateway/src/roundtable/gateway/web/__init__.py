"""Transport layer: the table page, as files of this package."""

from __future__ import annotations

from importlib import resources
from typing import Final

from starlette.responses import HTMLResponse, Response

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page() -> Response:
    html = resources.files(__name__).joinpath("index.html").read_text("utf-8")
    return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})
