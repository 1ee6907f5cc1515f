"""Pure layer: the forms in which a server message leaves, framed and ready to write. One encoding serves all connections.

Connections with the same codec share the same bytes. What it makes may be joined to any number of others of the same codec
and written at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from roundtable.common.schema.envelope import (
    ErrorMessage,
    Format,
    Response,
    ServerEvent,
    ServerMessage,
    encode,
    encode_sse,
)

from . import frames

DEFLATE_FROM: Final = 128
"""Bytes from which compressing pays; shorter messages go plain even where deflate was negotiated (RFC 7692 allows both)."""


class Edges(NamedTuple):
    """What stands round the items of an event that is a list: `before`, the count of the items, the items, `after`."""

    before: bytes
    between: bytes
    """Two items."""
    after: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """Each is the only one of its kind: compared and hashed by identity."""

    name: str
    format: Format
    message: Callable[[ServerMessage], bytes]
    """A message's bytes, without what the transport puts round them."""
    item: Callable[[Any], bytes]
    """One item of an event that is a list."""
    edges: Callable[[str, str, int], Edges]
    """For an event of that method whose only field is a list: method, field, timestamp."""
    count: Callable[[int], bytes]
    """How many items there are, where the format says it before them."""
    shared: Callable[[bytes], bytes]
    """Frames what many get: deflated where that was negotiated and pays."""
    own: Callable[[Sequence[bytes]], bytes]
    """Frames what one gets, in pieces, in the least time: never deflated."""
    comment: bytes = b""
    """Bytes that say nothing, where the form has such."""

    def frame(self, message: ServerMessage) -> bytes:
        return self.shared(self.message(message))


_json: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode


def _text(message: ServerMessage) -> bytes:
    return encode(message, "json")


def _binary(message: ServerMessage) -> bytes:
    return encode(message, "msgpack")


def _deflated_text(payload: bytes) -> bytes:
    return frames.deflated(payload, 0x1) if len(payload) >= DEFLATE_FROM else frames.text_frame(payload)


def _deflated_binary(payload: bytes) -> bytes:
    return frames.deflated(payload, 0x2) if len(payload) >= DEFLATE_FROM else frames.binary_frame(payload)


def _sse(message: ServerMessage) -> bytes:
    """One SSE event. Only events travel this way (EN6); answers go by `/rpc`.

    An error that ends the stream is the event `error`, with the error message as its data.
    """
    match message:
        case ServerEvent():
            ident = f"id: {message.id}\n".encode() if isinstance(message.id, str) else b""
            return b"event: %b\n%bdata: %b\n\n" % (message.method.encode(), ident, encode_sse(message))
        case ErrorMessage() | Response():
            return b"event: error\ndata: %b\n\n" % encode(message, "json")


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP/1.1's chunked coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# -- lists: what `message` gives for an event whose only field is a list, cut open where its items and its time stand


@cache
def _cut(message: Callable[[ServerMessage], bytes], method: str, field: str) -> tuple[bytes, bytes, bytes]:
    whole = message(ServerEvent(method, Raw(b'{"%b":[]}' % field.encode()), 0))
    before, _, after = whole.rpartition(b"[]")
    to_time, _, end = after.rpartition(b"0")
    return before + b"[", b"]" + to_time, end


def _text_edges(method: str, field: str, timestamp: int) -> Edges:
    before, to_time, end = _cut(_text, method, field)
    return Edges(before, b",", b"%b%d%b" % (to_time, timestamp, end))


def _sse_edges(method: str, field: str, timestamp: int) -> Edges:
    before, to_time, end = _cut(_sse, method, field)
    return Edges(before, b",", b"%b%d%b" % (to_time, timestamp, end))


def _binary_edges(method: str, field: str, timestamp: int) -> Edges:
    parts = ("type", "event", "method", method, "data")
    before = b"\x84%b\x81%b" % (b"".join(map(_pack, parts)), _pack(field))
    return Edges(before, b"", _pack("timestamp") + _pack(timestamp))


def _uncounted(count: int) -> bytes:
    return b""


def _counted(count: int) -> bytes:
    """MessagePack's header of an array."""
    return bytes((0x90 | count,)) if count < 16 else b"\xdd" + count.to_bytes(4, "big")


def _plain(data: bytes) -> bytes:
    return data


_COMMENT: Final = b": welcome\n\n"
_own_text: Final = partial(frames.joined_frame, frames.OPCODE_TEXT)
_own_binary: Final = partial(frames.joined_frame, frames.OPCODE_BINARY)
TEXT: Final = Codec("json", "json", _text, _json, _text_edges, _uncounted, frames.text_frame, _own_text)
BINARY: Final = Codec(
    "msgpack", "msgpack", _binary, _pack, _binary_edges, _counted, frames.binary_frame, _own_binary
)
DEFLATED_TEXT: Final = Codec(
    "json+deflate", "json", _text, _json, _text_edges, _uncounted, _deflated_text, _own_text
)
DEFLATED_BINARY: Final = Codec(
    "msgpack+deflate", "msgpack", _binary, _pack, _binary_edges, _counted, _deflated_binary, _own_binary
)
SSE: Final = Codec(
    "sse",
    "json",
    _sse,
    _json,
    _sse_edges,
    _uncounted,
    chunk,
    lambda parts: chunk(b"".join(parts)),
    chunk(_COMMENT),
)
SSE_PLAIN: Final = Codec("sse/1.0", "json", _sse, _json, _sse_edges, _uncounted, _plain, b"".join, _COMMENT)
"""For HTTP/1.0, which has no chunks: some proxies still speak it."""


def websocket_codec(fmt: Format, deflate: bool) -> Codec:
    if fmt == "json":
        return DEFLATED_TEXT if deflate else TEXT
    return DEFLATED_BINARY if deflate else BINARY
