"""Pure layer: what the server says, decoded into the schema's own types, and what we say, encoded. Knows no transport."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct

from roundtable.common.schema.envelope import (
    ErrorMessage,
    Format,
    Response,
    ServerEvent,
    ServerMessage,
    SSEEvent,
)
from roundtable.common.schema.methods import METHODS, SERVER_EVENTS

from .errors import LOST, RoundtableError

MEDIA: Final[dict[Format, str]] = {"json": "application/json", "msgpack": "application/msgpack"}


class Event(NamedTuple):
    """Something that the server told, or (`connected`, `latency`, …) the client itself."""

    name: str
    data: Any
    """The type of `roundtable.common.schema` that goes with the name; plain values where the name is a newer server's."""
    id: str = ""
    """The cursor after it; empty for what is not kept."""
    timestamp: int = 0


class Answer(NamedTuple):
    id: str
    method: str
    data: Any


class Failure(NamedTuple):
    """An error message. `id` is empty where it answers no request."""

    id: str
    method: str
    error: RoundtableError


class Place(NamedTuple):
    """A poll's answer reaches as far as this cursor."""

    cursor: str


Message = Event | Answer | Failure | Place


class Unreadable(ValueError):
    """What came is not what a Roundtable says."""


class _PollAnswer(Struct):
    events: list[SSEEvent]
    cursor: str


@cache
def _decoder(kind: Any, fmt: Format) -> msgspec.json.Decoder[Any] | msgspec.msgpack.Decoder[Any]:
    return msgspec.json.Decoder(kind) if fmt == "json" else msgspec.msgpack.Decoder(kind)


_TROUBLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def decode(payload: bytes | str, fmt: Format) -> Message:
    """One message. Raises `Unreadable`."""
    return _message(_decode(payload, ServerMessage, fmt), fmt)


def decode_replies(payload: bytes, fmt: Format) -> list[Message]:
    """What `POST /rpc` answers: one message, or an array of them. Raises `Unreadable`."""
    said = _decode(payload, ServerMessage | list[ServerMessage], fmt)
    return [_message(each, fmt) for each in (said if isinstance(said, list) else [said])]


def decode_stream(name: str, data: str) -> Message:
    """What one server-sent event carries: an `SSEEvent`, or as the last one an error message. Raises `Unreadable`."""
    if name == "error":
        return decode(data, "json")
    return _event(_decode(data, SSEEvent, "json"), "json")


def decode_poll(payload: bytes, fmt: Format) -> list[Message]:
    answer: _PollAnswer = _decode(payload, _PollAnswer, fmt)
    return [*(_event(each, fmt) for each in answer.events), Place(answer.cursor)]


def decode_error(payload: bytes, status: int) -> RoundtableError:
    """The error object of an HTTP answer. One without it is none of ours, but a proxy's: then there is no way through it."""
    try:
        message: ErrorMessage = _decoder(ErrorMessage, "json").decode(payload)
    except _TROUBLE:
        return RoundtableError(LOST, "", f"HTTP status {status}")
    return RoundtableError.of(message.error)


def encode(message: Any, fmt: Format) -> bytes:
    """Raises TypeError for what has no form in it."""
    return msgspec.json.encode(message) if fmt == "json" else msgspec.msgpack.encode(message)


def batch(parts: Sequence[bytes], fmt: Format) -> bytes:
    """Encoded messages as one array."""
    return encode([Raw(part) for part in parts], fmt)


def _decode(payload: bytes | str, kind: Any, fmt: Format) -> Any:
    try:
        return _decoder(kind, fmt).decode(payload.encode() if isinstance(payload, str) else payload)
    except _TROUBLE as error:
        raise Unreadable(str(error)) from None


def _message(message: ServerEvent | Response | ErrorMessage, fmt: Format) -> Message:
    match message:
        case ServerEvent():
            data = typed(message.data, SERVER_EVENTS.get(message.method), fmt)
            return Event(message.method, data, message.id or "", message.timestamp)
        case Response():
            known = METHODS.get(message.method)
            kind = known.answer if known is not None else None
            return Answer(message.id, message.method, typed(message.data, kind, fmt))
        case ErrorMessage():
            ident = "" if message.id is UNSET else message.id
            method = "" if message.method is UNSET else message.method
            return Failure(ident, method, RoundtableError.of(message.error))


def _event(event: SSEEvent, fmt: Format) -> Event:
    kind = SERVER_EVENTS.get(event.type)
    return Event(event.type, typed(event.data, kind, fmt), event.id or "", event.timestamp)


def typed(data: Raw, kind: type[Struct] | None, fmt: Format) -> Any:
    """As the type; as plain values where there is none, or the server is newer than our schema."""
    if kind is not None:
        try:
            return _decoder(kind, fmt).decode(data)
        except _TROUBLE:
            pass
    return _decode(bytes(data), Any, fmt)
