"""Pure layer: what `core` is told to hold on to, and all that it can ask of its shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from roundtable.common.schema.session import Transport

from .errors import RoundtableError
from .messages import Answer, Event

State = Literal["idle", "connecting", "connected", "reconnecting", "offline", "closed"]


class Policy(NamedTuple):
    """The options of a client that say how it holds on. Times in seconds."""

    reconnect: bool = True
    attempts: int = 5
    """For each transport."""
    delay: float = 1.0
    """The longest first pause; each next one may be twice as long, up to 30 s."""
    heartbeat: float = 30.0
    chain: bool = False
    """After the last transport go on looking; without it, give up."""
    renewable: bool = False
    """A new token can be had."""


# Effects


class Open(NamedTuple):
    """Connect. Whatever becomes of it is told by `received` and `ended` with this number."""

    link: int
    transport: Transport
    cursor: str


class Close(NamedTuple):
    """That link is not needed any more; nothing of it is listened to."""

    link: int


class Transmit(NamedTuple):
    link: int
    messages: Sequence[dict[str, Any]]


class Settle(NamedTuple):
    """The one end of a request."""

    id: str
    outcome: Answer | RoundtableError


class Emit(NamedTuple):
    event: Event


class Renew(NamedTuple):
    """Get a token and ask `auth.refresh`."""


Effect = Open | Close | Transmit | Settle | Emit | Renew


class Waiting(NamedTuple):
    """Data of `reconnecting`."""

    transport: Transport
    attempt: int
    delay: float
