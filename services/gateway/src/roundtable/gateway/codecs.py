"""Pure layer: the forms in which a server message leaves, framed and ready to write. One encoding serves all connections.

A codec is a value: connections with the same codec share the same bytes. What it makes may be joined to any number of others
of the same codec and written at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

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


class Codec(NamedTuple):
    name: str
    format: Format
    frame: Callable[[ServerMessage], bytes]
    comment: bytes = b""
    """Bytes that say nothing, where the form has such."""


def _text(message: ServerMessage) -> bytes:
    return frames.text_frame(encode(message, "json"))


def _binary(message: ServerMessage) -> bytes:
    return frames.binary_frame(encode(message, "msgpack"))


def _deflated_text(message: ServerMessage) -> bytes:
    payload = encode(message, "json")
    return frames.deflated(payload, 0x1) if len(payload) >= DEFLATE_FROM else frames.text_frame(payload)


def _deflated_binary(message: ServerMessage) -> bytes:
    payload = encode(message, "msgpack")
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


def _sse_chunk(message: ServerMessage) -> bytes:
    return chunk(_sse(message))


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP/1.1's chunked coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_COMMENT: Final = b": welcome\n\n"
TEXT: Final = Codec("json", "json", _text)
BINARY: Final = Codec("msgpack", "msgpack", _binary)
DEFLATED_TEXT: Final = Codec("json+deflate", "json", _deflated_text)
DEFLATED_BINARY: Final = Codec("msgpack+deflate", "msgpack", _deflated_binary)
SSE: Final = Codec("sse", "json", _sse_chunk, chunk(_COMMENT))
SSE_PLAIN: Final = Codec("sse/1.0", "json", _sse, _COMMENT)
"""For HTTP/1.0, which has no chunks: some proxies still speak it."""


def websocket_codec(fmt: Format, deflate: bool) -> Codec:
    if fmt == "json":
        return DEFLATED_TEXT if deflate else TEXT
    return DEFLATED_BINARY if deflate else BINARY
