"""Schema layer: the client's events that come sixty times a second, read in one step. Pure.

A short cut and no second rule: what it returns is what `decode_client` and `decode_params` make of the same bytes, for a
sixth of their time; of all that is not valid it says nothing, so that they say what is wrong with it.
"""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from . import canvas, presence
from .envelope import Format

LOOK_AT: Final = 128
"""Bytes of a message in which the method's name stands, if its sender wants to be quick."""

_Id = Annotated[str, Meta(max_length=64)]


class _CursorMoved(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="presence.cursor"
):
    type: Literal["event"]
    params: presence.MoveCursor
    id: _Id = ""
    timestamp: float | UnsetType = UNSET


class _Inked(Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="canvas.preview"):
    type: Literal["event"]
    params: canvas.Preview
    id: _Id = ""
    timestamp: float | UnsetType = UNSET


Fleeting = presence.MoveCursor | canvas.Preview

_DECODE: Final = {
    "json": msgspec.json.Decoder(_CursorMoved | _Inked).decode,
    "msgpack": msgspec.msgpack.Decoder(_CursorMoved | _Inked).decode,
}


def decode_fleeting(data: bytes, fmt: Format) -> Fleeting | None:
    """The parameters of a valid `presence.cursor` or `canvas.preview` event; None: read it the long way."""
    if data.find(b"presence.cursor", 0, LOOK_AT) < 0 and data.find(b"canvas.preview", 0, LOOK_AT) < 0:
        return None
    try:
        event: _CursorMoved | _Inked = _DECODE[fmt](data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    if event.timestamp is not UNSET and not isfinite(event.timestamp):
        return None
    return event.params
