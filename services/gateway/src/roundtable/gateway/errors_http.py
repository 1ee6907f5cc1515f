"""HTTP layer: the contract's error object as a response, and bodies read within limits. Knows no route and no service.

Give `EXCEPTION_HANDLERS` to the Starlette application: then an endpoint raises `Refusal`, and even Starlette's own 404 and
405 come out as error objects.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from math import ceil
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from roundtable.common.schema.envelope import ErrorMessage, encode, readable
from roundtable.common.schema.errors import Refusal
from roundtable.common.telemetry import log

T = TypeVar("T", bound=Struct)

BODY_LIMIT: Final = 65_536
BODY_SECONDS: Final = 10.0
DISCARDED: Final = 1_048_576
"""Bytes of a body over the limit that are read all the same."""
_REASONS: Final = {404: "unknown_method", 405: "unknown_method", 413: "too_big", 415: "unsupported_data"}


def json_response(value: Any, status: int = 200) -> Response:
    """JSON that no cache keeps."""
    return Response(msgspec.json.encode(value), status, {"Cache-Control": "no-store"}, "application/json")


def http_error(refusal: Refusal, status: int = 0, headers: Mapping[str, str] | None = None) -> Response:
    """The error object, with its reason's status and the headers that go with it (RFC 6750, 3; RFC 9110, 10.2.3)."""
    status = status or refusal.kind.status
    extra = {"Cache-Control": "no-store", **(headers or {})}
    if refusal.retry_after is not None:
        extra["Retry-After"] = str(max(1, ceil(refusal.retry_after)))
    if status == 401:
        wrong = ' error="invalid_token"' if refusal.reason != "auth_required" else ""
        extra["WWW-Authenticate"] = f"Bearer{wrong}"
    if status == 413 or refusal.reason == "draining":
        # The rest of the body may not have been read; what comes next finds another gateway.
        extra["Connection"] = "close"
    body = encode(ErrorMessage(refusal.body, int(time.time() * 1_000)), "json")
    return Response(body, status, extra, "application/json")


async def read_body(request: Request, limit: int = BODY_LIMIT, within: float = BODY_SECONDS) -> bytes:
    """The body. Raises `Refusal`: `too_big`, or `invalid_data` if it stops or takes too long.

    A little of what is too much is read and thrown away: whoever is cut off while they send never sees why.
    """
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(within):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit + DISCARDED:
                    break
                if size <= limit:
                    body += chunk
    except TimeoutError:
        if size <= limit:
            raise Refusal("invalid_data", f"The body did not come within {within:g} s") from None
    except ClientDisconnect:
        raise Refusal("invalid_data", "The body was cut short") from None
    if size > limit:
        raise Refusal("too_big", f"The body is larger than {limit} bytes")
    return bytes(body)


async def read_json(
    request: Request, kind: type[T], limit: int = BODY_LIMIT, within: float = BODY_SECONDS
) -> T:
    """The body as that type. Raises `Refusal` as `read_body` does; `unsupported_data`; `invalid_data` with the field's path."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" or request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal("unsupported_data", "Send plain JSON with `Content-Type: application/json`")
    body = await read_body(request, limit, within)
    try:
        value: T = _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        raise Refusal("invalid_data", readable(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refusal("invalid_data", f"Not JSON: {error}") from None
    except RecursionError:
        raise Refusal("invalid_data", "The body is nested too deep") from None
    return value


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _count(request: Request, refusal: Refusal) -> Refusal:
    """Where the application has metrics."""
    count: Callable[[str], None] | None = getattr(request.app.state, "count_refusal", None)
    if count is not None:
        count(refusal.reason)
    return refusal


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return http_error(_count(request, error))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = _REASONS.get(error.status_code, "invalid_data" if error.status_code < 500 else "internal")
    text = f"{error.detail}: {request.method} {request.url.path}"[:200]
    return http_error(_count(request, Refusal(reason, text)), error.status_code, error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    log.error("http.failed", method=request.method, path=request.url.path[:200], error=repr(error))
    return http_error(_count(request, Refusal("internal")))


EXCEPTION_HANDLERS: Final[dict[Any, Callable[[Request, Exception], Awaitable[Response]]]] = {
    Refusal: _refused,
    HTTPException: _http,
    Exception: _broken,
}
