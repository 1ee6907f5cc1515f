"""Pure layer: what stands in a post: its `data` checked by its type and cleaned. Knows no state, no dice, no randomness."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from roundtable.common.schema import activity as schema
from roundtable.common.schema.basics import clean_text
from roundtable.common.schema.envelope import readable, to_json
from roundtable.common.schema.errors import Refusal

PATH: Final = "params.data"
MAX_NESTING: Final = 20
_LEAST, _MOST = -(2**63), 2**64 - 1


def check_audience(post: schema.Post) -> None:
    """A whisper is a chat message; only a roll can be hidden."""
    if post.to is not UNSET and post.type != "chat_message":
        raise Refusal(
            "invalid_data", f"Only a `chat_message` can be a whisper, not `{post.type}` - at `params.to`"
        )
    if post.visibility is not UNSET and post.type != "dice_roll":
        raise Refusal(
            "invalid_data", f"Only a `dice_roll` can be hidden, not `{post.type}` - at `params.visibility`"
        )


def clean_data(type_: schema.ActivityType, raw: Raw) -> Raw:
    """The `data` as it is stored: every text in it cleaned, then checked: so one that is empty now is refused too.

    Raises `Refusal("invalid_data")` with the path of what is wrong.
    """
    try:
        value = _clean(msgspec.json.decode(raw), 0)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal("invalid_data", f"{error} - at `{PATH}`") from None
    try:
        msgspec.convert(value, schema.POST_DATA[type_])
    except msgspec.ValidationError as error:
        raise Refusal("invalid_data", readable(error, PATH)) from None
    return to_json(value)


def _clean(value: Any, depth: int) -> Any:
    if depth > MAX_NESTING:
        raise Refusal("invalid_data", f"Nested deeper than {MAX_NESTING} - at `{PATH}`")
    match value:
        case str():
            return clean_text(value)
        case dict():
            return {clean_text(key): _clean(inner, depth + 1) for key, inner in value.items()}
        case list():
            return [_clean(inner, depth + 1) for inner in value]
        case int() if not _LEAST <= value <= _MOST:
            raise Refusal("invalid_data", f"A whole number needs more than 64 bits - at `{PATH}`")
    return value
