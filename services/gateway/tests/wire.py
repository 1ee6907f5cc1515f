"""What a client reads of joined bytes: the messages of any codec."""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgspec


def messages_in(data: bytes, codec: str) -> list[dict[str, Any]]:
    if codec.startswith("sse"):
        return _sse(data)
    found = []
    while data:
        first, length, start = data[0], data[1], 2
        assert not length & 0x80, "servers do not mask"
        if length >= 126:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
        payload, data = data[start : start + length], data[start + length :]
        if first & 0x40:
            payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
        found.append(json.loads(payload) if first & 0x0F == 1 else msgspec.msgpack.decode(payload))
    return found


def _sse(data: bytes) -> list[dict[str, Any]]:
    text = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        text += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        data = rest[length + 2 :]
    found = []
    for block in text.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "data" in fields:
            event = json.loads(fields["data"])
            assert event["type"] == fields["event"]
            assert event.get("id") == fields.get("id")
            found.append({**event, "method": event["type"]})
    return found
