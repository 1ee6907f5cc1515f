"""Schema layer: the seed's `WSMessage` and `SSEEvent` (section 2), encoded and decoded in JSON and MessagePack. Pure.

Decoding is strict: what comes back is valid, or is a `Refusal` that names the field. Encoding is by message, once; the
bytes are then shared by all connections of a format.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from math import isfinite
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from .errors import ErrorBody, Refusal

T = TypeVar("T", bound=Struct)

Format = Literal["json", "msgpack"]
SUBPROTOCOLS: Final[dict[str, Format]] = {"roundtable.v1.json": "json", "roundtable.v1.msgpack": "msgpack"}
MAX_BATCH: Final = 100
LONGEST_TEXT: Final = 400
"""Characters of msgspec's words in a refusal."""

_json_encode = msgspec.json.Encoder().encode
_pack_encode = msgspec.msgpack.Encoder().encode


class ClientMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """A `WSMessage` as a client may send it (EN1–EN3). Checked further by `check`."""

    type: Literal["request", "event", "response", "error"]
    method: str = ""
    id: str = ""
    params: Raw | UnsetType = UNSET
    timestamp: float | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class ServerEvent(Struct, frozen=True, omit_defaults=True, tag="event"):
    """EN4. `id` is the cursor after it, on every event that moves the cursor."""

    method: str
    data: Raw
    timestamp: int
    id: str | UnsetType = UNSET


class Response(Struct, frozen=True, omit_defaults=True, tag="response"):
    id: str
    method: str
    data: Raw
    timestamp: int


class ErrorMessage(Struct, frozen=True, omit_defaults=True, tag="error"):
    """EN7. Without `id` where the message could not be read that far."""

    error: ErrorBody
    timestamp: int
    id: str | UnsetType = UNSET
    method: str | UnsetType = UNSET


ServerMessage = ServerEvent | Response | ErrorMessage


class SSEEvent(Struct, frozen=True, omit_defaults=True):
    """The seed's `SSEEvent`: what SSE and long poll carry (EN6)."""

    type: str
    data: Raw
    timestamp: int
    id: str | UnsetType = UNSET


@cache
def _decoder(kind: Any, fmt: Format) -> Callable[[bytes | Raw], Any]:
    return (msgspec.json.Decoder(kind) if fmt == "json" else msgspec.msgpack.Decoder(kind)).decode


_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def decode_client(data: bytes, fmt: Format) -> list[ClientMessage | tuple[Refusal, str, str]]:
    """The messages of one frame or body: one, or a batch of at most 100 (EN1).

    A message that is not valid stands as `(refusal, id, method)`, so that its answer can still name it. Raises `Refusal`
    when the frame as a whole cannot be read.
    """
    if fmt == "json":
        try:
            data.decode()  # what stays raw is checked by nobody else
        except UnicodeDecodeError as error:
            raise _unreadable(error, fmt) from None
    if is_batch(data, fmt):
        try:
            items = _decoder(tuple[Raw, ...], fmt)(data)
        except _UNREADABLE as error:
            raise _unreadable(error, fmt) from None
        if not 1 <= len(items) <= MAX_BATCH:
            raise Refusal("invalid_data", f"A batch holds 1 to {MAX_BATCH} messages, got {len(items)}")
        return [_decode_one(bytes(item), fmt) for item in items]
    return [_decode_one(data, fmt)]


_BATCH: Final = re.compile(rb"[ \t\r\n]*\[")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$(.*)`)?\Z", re.DOTALL)


def is_batch(data: bytes, fmt: Format) -> bool:
    """Whether the bytes are an array, by their first significant byte."""
    if fmt == "json":
        return _BATCH.match(data) is not None
    first = data[0] if data else 0
    return 0x90 <= first <= 0x9F or first in (0xDC, 0xDD)


def rest_of_batch(data: bytes, fmt: Format, start: int) -> bytes:
    """The messages of a valid batch from number `start` on, as a batch; empty: there are none."""
    if not is_batch(data, fmt):
        return b""
    items = _decoder(tuple[Raw, ...], fmt)(data)[start:]
    encode_items = _json_encode if fmt == "json" else _pack_encode
    return encode_items(items) if items else b""


def _decode_one(data: bytes, fmt: Format) -> ClientMessage | tuple[Refusal, str, str]:
    try:
        message: ClientMessage = _decoder(ClientMessage, fmt)(data)
    except msgspec.ValidationError as error:
        return _named(Refusal("invalid_data", readable(error)), data, fmt)
    except _UNREADABLE as error:
        raise _unreadable(error, fmt) from None
    fault = _fault(message)
    if fault:
        return Refusal("invalid_data", fault), message.id[:64], message.method[:64]
    return message


def _fault(message: ClientMessage) -> str:
    if message.type not in ("request", "event"):
        return f"`type`: a client sends `request` or `event`, not `{message.type}`"
    if message.data is not UNSET or message.error is not UNSET:
        return f"`{'data' if message.error is UNSET else 'error'}`: only the server sends it; parameters go into `params`"
    if not message.method:
        return "`method` is missing"
    if message.type == "request" and not 1 <= len(message.id) <= 64:
        return "`id` must be a string of 1 to 64 characters"
    if len(message.id) > 64:
        return "`id` must be a string of at most 64 characters"
    if message.timestamp is not UNSET and not isfinite(message.timestamp):
        return "`timestamp` must be a finite number"
    return ""


def _named(refusal: Refusal, data: bytes, fmt: Format) -> tuple[Refusal, str, str]:
    """A refusal with the `id` and `method` of a message that is readable but not valid, where it has them."""
    try:
        loose = _decoder(Any, fmt)(data)
    except _UNREADABLE as error:
        raise _unreadable(error, fmt) from None
    fields = loose if isinstance(loose, dict) else {}
    ident, method = fields.get("id"), fields.get("method")
    return (
        refusal,
        ident if isinstance(ident, str) and 1 <= len(ident) <= 64 else "",
        method if isinstance(method, str) and len(method) <= 64 else "",
    )


def decode_params(raw: Raw | UnsetType, kind: type[T], fmt: Format) -> T:
    """`params` as the method's type. Raises `Refusal` with the path of what is wrong."""
    if raw is UNSET:
        raw = Raw(b"{}" if fmt == "json" else b"\x80")
    try:
        params: T = _decoder(kind, fmt)(raw)
    except msgspec.ValidationError as error:
        raise Refusal("invalid_data", readable(error, "params")) from None
    except _UNREADABLE as error:
        raise _unreadable(error, fmt) from None
    return params


def params_as_json(raw: Raw | UnsetType, fmt: Format) -> Raw:
    """`params` that were decoded once already, as JSON: the form in which services take them. Raises `Refusal`."""
    if raw is UNSET:
        return Raw(b"{}")
    if fmt == "json":
        return raw
    try:
        return to_json(msgspec.msgpack.decode(raw))
    except (*_UNREADABLE, TypeError, ValueError) as error:
        raise Refusal("invalid_data", f"`params` holds what JSON cannot: {error}") from None


def readable(error: msgspec.ValidationError, root: str = "") -> str:
    """msgspec's text with our path: ``at `$.x` `` becomes ``at `params.x` ``."""
    text = _shortened(str(error))
    unknown = _UNKNOWN.match(text)
    if unknown:
        path = ".".join(part for part in (root, (unknown[2] or "").lstrip(".")) if part)
        return f"Unknown field `{path}.{unknown[1]}`" if path else f"Unknown field `{unknown[1]}`"
    if " - at `$" in text:
        return text.replace("`$.", f"`{root}." if root else "`").replace("`$", f"`{root}")
    return f"{text} - at `{root}`" if root else text


def _shortened(text: str) -> str:
    """A client's own words come back in the text, and they may be long."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT // 2]}…{text[-LONGEST_TEXT // 2 :]}"


def _unreadable(error: Exception, fmt: Format) -> Refusal:
    if isinstance(error, RecursionError):
        return Refusal("invalid_data", "The message is nested too deep")
    name = "JSON" if fmt == "json" else "MessagePack"
    return Refusal("invalid_data", f"Not {name}: {error}")


def to_json(value: Any) -> Raw:
    """Any schema value as JSON, ready to be the `data` of a message."""
    return Raw(_json_encode(value))


def encode(message: ServerMessage, fmt: Format) -> bytes:
    """One server message, whose `data` is JSON, in the connection's format."""
    text = _json_encode(message)
    return text if fmt == "json" else pack(text)


def pack(text: bytes) -> bytes:
    """JSON as MessagePack. Integers beyond 64 bits, which JSON may hold, become floats there, or texts."""
    value = msgspec.json.decode(text)
    try:
        return _pack_encode(value)
    except OverflowError:
        return _pack_encode(_packable(value))


def _packable(value: Any) -> Any:
    match value:
        case dict():
            return {key: _packable(each) for key, each in value.items()}
        case list():
            return [_packable(each) for each in value]
        case int() if not -(2**63) <= value < 2**64:
            return float(value) if abs(value) < 10**308 else str(value)
        case _:
            return value


def encode_sse(event: ServerEvent) -> bytes:
    """The JSON of the `SSEEvent` for this event; one line, as JSON escapes newlines."""
    return _json_encode(SSEEvent(event.method, event.data, event.timestamp, event.id))
