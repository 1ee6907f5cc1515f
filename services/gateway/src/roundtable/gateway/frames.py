"""Wire layer: WebSocket frames, bytes in, events out; must not know sockets, asyncio, sessions or JSON.

The server's side of RFC 6455 and 7692: clients' frames come masked and leave as events, the server's go out
unmasked and whole. Deflate is without context takeover both ways: a message is deflated once for everybody,
and no connection holds a zlib object (a context costs 121 KB).
"""

import codecs
import re
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec


def xor_mask(data: bytes | bytearray | memoryview, mask: bytes | bytearray) -> bytes:
    """Mask or unmask `data` with four bytes (RFC 6455, 5.3), where the C module is missing."""
    size = len(data)
    key = (bytes(mask) * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - depends on the platform's wheel
    apply_mask = xor_mask

OPCODE_TEXT: Final = 0x1
OPCODE_BINARY: Final = 0x2
OPCODE_CLOSE: Final = 0x8
OPCODE_PING: Final = 0x9
OPCODE_PONG: Final = 0xA
_FIN: Final = 0x80
_RSV1: Final = 0x40
_FIN_TEXT: Final = _FIN | OPCODE_TEXT
_FIN_BINARY: Final = _FIN | OPCODE_BINARY
_PLAIN: Final = (_FIN_TEXT, _FIN_BINARY)

NO_CODE: Final = 1005  # a close frame without a code (RFC 6455, 7.1.5); never on the wire
MAX_FRAGMENTS: Final = 4096  # in a message: empty ones would never reach its size limit
_MAX_FINAL_BLOCKS: Final = 64  # in a deflated message: each costs a decompressor

# A message of a few KB compresses as well with a window of 12 bits as with zlib's 15, in half the time:
# the rest goes into clearing tables.
_WINDOW_BITS: Final = 12
_MEMORY_LEVEL: Final = 5
_LEVEL: Final = 1

_TAIL: Final = b"\x00\x00\xff\xff"
# What the sender cut off, then an empty final block, only seen if the message ends where a block does.
_TAIL_AND_END: Final = _TAIL + b"\x03\x00"


class Text(msgspec.Struct, frozen=True, gc=False):
    """A text message: `data` is valid UTF-8."""

    data: bytes


class Binary(msgspec.Struct, frozen=True, gc=False):
    data: bytes


class Ping(msgspec.Struct, frozen=True, gc=False):
    """To be answered with `pong_frame(data)`."""

    data: bytes


class Pong(msgspec.Struct, frozen=True, gc=False):
    data: bytes


class Close(msgspec.Struct, frozen=True, gc=False):
    """The last event of a connection; `code` is `NO_CODE` where the peer gave none."""

    code: int
    reason: str


Event = Text | Binary | Ping | Pong | Close

_REASONS: Final = {1002: "protocol_error", 1003: "unsupported_data", 1007: "invalid_data", 1009: "too_big"}


class FrameError(Exception):
    """The peer broke a rule: close with `code` and `reason`. `events` are those that came before."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = _REASONS[code]
        self.message = message
        self.events: list[Event] = []


class _Message:
    """A fragmented message that has begun and not ended."""

    __slots__ = ("data", "decoder", "deflated", "fragments", "text")

    def __init__(self, text: bool, deflated: bool) -> None:
        self.text = text
        self.deflated = deflated
        self.data = bytearray()
        self.fragments = 0
        # What is deflated can't be judged before its end.
        self.decoder = codecs.getincrementaldecoder("utf-8")() if text and not deflated else None


class FrameParser:
    """Turns a connection's bytes into events; after a `Close` or a `FrameError` it ignores what comes.

    `max_size` holds for a whole message, re-assembled and inflated. Between two calls of `feed` at most
    `max_size` (for a deflated message an eighth more: random bytes grow when deflated), one header and
    one control frame wait in it; idle it holds 80 bytes.
    """

    __slots__ = ("_buffer", "_done", "_inflate", "_max_size", "_message", "_need")

    def __init__(self, max_size: int = 65536, inflate: bool = False) -> None:
        self._max_size = max_size
        self._inflate = inflate
        self._buffer: bytearray | None = None  # the start of a frame, and
        self._need = 2  # how many of its bytes to wait for: looking sooner would make a slow drip quadratic
        self._message: _Message | None = None
        self._done = False

    @property
    def buffered(self) -> int:
        """Bytes that wait for the rest of their frame or message."""
        waiting = 0 if self._buffer is None else len(self._buffer)
        return waiting if self._message is None else waiting + len(self._message.data)

    def whole(self, data: bytes, binary: bool) -> bytes | None:
        """The payload, if `data` is one plain message of that kind and nothing waits: that is nearly always so.

        None: `feed` it, which judges it. Takes a third of the time.
        """
        if self._buffer is not None or self._message is not None or self._done or len(data) < 7:
            return None
        size, start = data[1] - 0x80, 6
        if size == 126:
            size, start = data[2] << 8 | data[3], 8
        first = data[0]
        if start + size != len(data) or size > self._max_size or data[1] == 0xFF:
            return None
        if first != (_FIN_BINARY if binary else _FIN_TEXT):
            return None
        payload = apply_mask(data[start:], data[start - 4 : start])
        return payload if binary or payload.isascii() or _is_utf8(payload) else None

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises FrameError, with the events before the error in it."""
        if self._done:
            return []
        if self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
            self._buffer = None
        events: list[Event] = []
        try:
            rest = self._parse(data, events)
        except FrameError as error:
            self._stop()
            error.events = events
            raise
        if rest < len(data) and not self._done:
            self._buffer = bytearray(data[rest:])
        return events

    def _stop(self) -> None:
        self._done = True
        self._buffer = self._message = None

    def _parse(self, data: bytes, events: list[Event]) -> int:
        """Append the events of all whole frames; return where the first incomplete one starts."""
        end = len(data)
        pos = 0
        while end - pos >= 2:
            first = data[pos]
            length = data[pos + 1] - 0x80
            if length < 0:
                raise FrameError(1002, "a client's frame must be masked")
            # The common case needs no further look: a whole message in one frame, nothing negotiated in it.
            plain = first in _PLAIN and self._message is None
            if not plain:
                self._check_header(first, length)
            if length < 126:
                start = pos + 6
            else:
                start = pos + (8 if length == 126 else 14)
                if end < start - 4:
                    self._need = start - 4 - pos
                    return pos
                if length == 126:
                    length = data[pos + 2] << 8 | data[pos + 3]
                else:
                    length = int.from_bytes(data[pos + 2 : pos + 10], "big")
                    if length >> 63:
                        raise FrameError(1002, "the highest bit of a frame's length must be 0")
            # The length is judged before its payload is waited for.
            if length > self._max_size or not plain:
                self._check_size(first, length)
            stop = start + length
            if end < stop:
                self._need = stop - pos
                return pos
            payload = apply_mask(data[start:stop], data[start - 4 : start])
            pos = stop
            if plain:
                if first == _FIN_TEXT:
                    if not (payload.isascii() or _is_utf8(payload)):
                        raise _not_utf8()
                    events.append(Text(payload))
                else:
                    events.append(Binary(payload))
            elif first & 0x8:
                events.append(_control(first & 0xF, payload))
                if first & 0xF == OPCODE_CLOSE:
                    self._stop()
                    return pos
            else:
                event = self._fragment(first, payload)
                if event is not None:
                    events.append(event)
        self._need = 2
        return pos

    def _check_header(self, first: int, length: int) -> None:
        """The rules for a frame's first two bytes; `length` is its 7 bits."""
        opcode = first & 0xF
        if opcode & 0x7 > 2:
            raise FrameError(1002, f"unknown opcode 0x{opcode:X}")
        starts = opcode in (OPCODE_TEXT, OPCODE_BINARY)
        if first & 0x70 and not (first & 0x70 == _RSV1 and self._inflate and starts):
            raise FrameError(1002, "a reserved bit is set that was not negotiated for this frame")
        if opcode & 0x8:
            if not first & _FIN:
                raise FrameError(1002, "a control frame must not be fragmented")
            if length > 125:
                raise FrameError(1002, "a control frame's payload is 125 bytes at most")
        elif starts:
            if self._message is not None:
                raise FrameError(1002, "a new message within a fragmented one")
        elif self._message is None:
            raise FrameError(1002, "a continuation without a start")
        elif self._message.fragments >= MAX_FRAGMENTS:
            raise FrameError(1009, f"a message of more than {MAX_FRAGMENTS} fragments")

    def _check_size(self, first: int, length: int) -> None:
        if first & 0x8:
            return
        message = self._message
        limit = self._max_size
        if first & _RSV1 or (message is not None and message.deflated):
            limit += (limit >> 3) + 64  # zlib's worst case; what comes out is held to max_size itself
        if length + (0 if message is None else len(message.data)) > limit:
            raise _too_big(self._max_size)

    def _fragment(self, first: int, payload: bytes) -> Event | None:
        """A frame that is part of a message, or deflated; the message if it ends here."""
        message = self._message
        if message is None:
            text, deflated = first & 0xF == OPCODE_TEXT, bool(first & _RSV1)
            if not first & _FIN:
                message = self._message = _Message(text, deflated)
        else:
            text, deflated = message.text, message.deflated
        if message is not None:
            message.fragments += 1
            message.data += payload
            if message.decoder is not None:
                try:
                    message.decoder.decode(payload, bool(first & _FIN))
                except UnicodeDecodeError:
                    raise _not_utf8() from None
            if not first & _FIN:
                return None
            self._message = None
            payload = bytes(message.data)
        if deflated:
            payload = _inflate(payload, self._max_size)
            if text and not _is_utf8(payload):
                raise _not_utf8()
        return Text(payload) if text else Binary(payload)


def _too_big(max_size: int) -> FrameError:
    return FrameError(1009, f"a message of more than {max_size} bytes")


def _not_utf8() -> FrameError:
    return FrameError(1007, "text that is not UTF-8")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _control(opcode: int, payload: bytes) -> Event:
    if opcode == OPCODE_PING:
        return Ping(payload)
    if opcode == OPCODE_PONG:
        return Pong(payload)
    if not payload:
        return Close(NO_CODE, "")
    if len(payload) == 1:
        raise FrameError(1002, "a close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not _is_close_code(code):
        raise FrameError(1002, f"close code {code} is not for the wire")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise FrameError(1007, "a close reason that is not UTF-8") from None


def _is_close_code(code: int) -> bool:
    """RFC 6455, 7.4 and IANA's registry."""
    return (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999


def _inflate(data: bytes, max_size: int) -> bytes:
    """One deflated message (RFC 7692, 7.2.2); never more than `max_size` + 1 bytes come to be."""
    if not data:
        return b""  # an encoder that cuts off the tail of nothing
    inflated = b""
    rest = data + _TAIL_AND_END
    for _ in range(_MAX_FINAL_BLOCKS):
        # A sender may end a block with BFINAL and go on (7.2.3.4): zlib stops there, so the next block needs
        # a decompressor of its own, which sees the same window.
        inflater = zlib.decompressobj(-15, inflated[-32768:])
        try:
            inflated += inflater.decompress(rest, max_size + 1 - len(inflated))
        except zlib.error:
            raise FrameError(1007, "corrupt deflate data") from None
        if len(inflated) > max_size:
            raise _too_big(max_size)
        if not inflater.eof:
            raise FrameError(1007, "deflate data that is cut off")
        rest = inflater.unused_data
        if not rest:
            return inflated
    raise FrameError(1007, f"more than {_MAX_FINAL_BLOCKS} final deflate blocks")


def _frame(first: int, payload: bytes) -> bytes:
    return _head(first, len(payload)) + payload


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return bytes((first, 126, size >> 8, size & 0xFF))
    return bytes((first, 127)) + size.to_bytes(8, "big")


def text_frame(payload: bytes) -> bytes:
    """A whole text message; `payload` must be UTF-8 (not looked at)."""
    return _frame(_FIN_TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    return _frame(_FIN | OPCODE_BINARY, payload)


def joined_frame(opcode: int, parts: Sequence[bytes]) -> bytes:
    """A whole message of these pieces, which are copied but once."""
    return b"".join((_head(_FIN | opcode, sum(map(len, parts))), *parts))


def ping_frame(payload: bytes = b"") -> bytes:
    return _control_frame(OPCODE_PING, payload)


def pong_frame(payload: bytes) -> bytes:
    return _control_frame(OPCODE_PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; `NO_CODE` gives one without a code. The reason is cut to the 123 bytes that fit.

    Raises ValueError for a code that must not be sent.
    """
    if code == NO_CODE:
        return _control_frame(OPCODE_CLOSE, b"")
    if not _is_close_code(code):
        raise ValueError(f"close code {code} is not for the wire")
    text = reason.encode()[:123].decode(errors="ignore").encode()  # a cut must not split a character
    return _control_frame(OPCODE_CLOSE, code.to_bytes(2, "big") + text)


def _control_frame(opcode: int, payload: bytes) -> bytes:
    """Raises ValueError for more than 125 bytes."""
    if len(payload) > 125:
        raise ValueError("a control frame's payload is 125 bytes at most")
    return bytes((_FIN | opcode, len(payload))) + payload


def deflated(payload: bytes, opcode: int = OPCODE_TEXT) -> bytes:
    """A whole deflated message, for any connection that negotiated deflate (RFC 7692, 7.2.1)."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL)
    data = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return _frame(_FIN | _RSV1 | opcode, data[: -len(_TAIL)])


def deflated_text_frame(payload: bytes) -> bytes:
    return deflated(payload, OPCODE_TEXT)


_PARAMETER: Final = re.compile(
    r"server_no_context_takeover|client_no_context_takeover"
    r'|client_max_window_bits(?:[ \t]*=[ \t]*("?)(?:[89]|1[0-5])\1)?'
    r'|server_max_window_bits[ \t]*=[ \t]*("?)(?P<server_bits>[89]|1[0-5])\2'
)


def negotiate_deflate(header: str) -> str | None:
    """The answer to a client's Sec-WebSocket-Extensions: for the first offer that can be met, or None.

    An offer with an unknown, repeated or wrong parameter is declined, and the next one tried (RFC 7692, 5.1).
    A client's own window is no matter: the inflater takes any.
    """
    for offer in header.split(","):
        name, *parameters = (part.strip(" \t") for part in offer.split(";"))
        if name == "permessage-deflate":
            answer = _answer(parameters)
            if answer is not None:
                return answer
    return None


def _answer(parameters: list[str]) -> str | None:
    answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    seen = set()
    for parameter in parameters:
        match = _PARAMETER.fullmatch(parameter)
        name = parameter.partition("=")[0].rstrip(" \t")
        if match is None or name in seen:
            return None
        seen.add(name)
        bits = match["server_bits"]
        if bits is not None:
            if int(bits) < _WINDOW_BITS:
                return None  # promise no window smaller than the one that is used
            answer += f"; server_max_window_bits={bits}"
    return answer
