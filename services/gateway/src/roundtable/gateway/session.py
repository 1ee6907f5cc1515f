"""Pure layer: what a message from a client means. Messages and times in, effects out; knows no transport, room state or clock.

`session.py` is to the gateway what `decider.py` is to a service: every rule about who may say what, how often and in which
form is here, so it holds over every transport.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Raw, Struct

from roundtable.common.schema import canvas, presence
from roundtable.common.schema.basics import Role
from roundtable.common.schema.envelope import (
    ClientMessage,
    Format,
    decode_client,
    decode_params,
    params_as_json,
    to_json,
)
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.fleeting import Fleeting, decode_fleeting
from roundtable.common.schema.log import CommandMessage
from roundtable.common.schema.methods import METHODS, Method
from roundtable.common.schema.session import Claims, Heartbeat, HeartbeatAnswer, Login, Transport

from .ratelimit import Refusals, TokenBucket


class Ask(NamedTuple):
    """Send this to its service, and its answer to the client if it waits for one."""

    method: Method
    command: CommandMessage
    answered: bool


class Reply(NamedTuple):
    """Answer at once."""

    id: str
    method: str
    data: Raw


class Refuse(NamedTuple):
    """Answer with an error. `id` and `method` are empty where the message did not tell them."""

    refusal: Refusal
    id: str = ""
    method: str = ""


class Authenticate(NamedTuple):
    """Verify a token: `auth.login` or `auth.refresh`."""

    id: str
    method: str
    token: str


class End(NamedTuple):
    """Close the connection."""

    refusal: Refusal


Effect = Ask | Reply | Refuse | Authenticate | presence.MoveCursor | canvas.Preview | End
"""A cursor and a preview are what they are: to be told to the room."""


class Session:
    """One connection's side of the conversation. `claims` is None until a login (AU2)."""

    __slots__ = ("id", "room", "transport", "claims", "role", "bucket", "_refusals")

    def __init__(
        self,
        connection_id: str,
        room: str,
        transport: Transport,
        claims: Claims | None,
        role: Role,
        bucket: TokenBucket | None,
        refusals: Refusals | None = None,
    ) -> None:
        self.id = connection_id
        self.room = room
        self.transport: Transport = transport
        self.claims = claims
        self.role: Role = role
        self.bucket = bucket
        """Shared by all connections of the user at this gateway; None: no limit."""
        self._refusals = refusals

    def fleeting(self, data: bytes, fmt: Format) -> Fleeting | None:
        """What `receive` would make of the one message of a frame, where that is a cursor or preview to be told.

        None: let `receive` judge it. Nearly all messages are such, and this costs a fifth of the long way.
        """
        if self.claims is None:
            return None
        found = decode_fleeting(data, fmt)
        if isinstance(found, canvas.Preview) and self.role not in METHODS["canvas.preview"].roles:
            return None
        return found

    def receive(self, data: bytes, fmt: Format, now: float, now_ms: int) -> list[Effect]:
        """What one frame or request body means: an effect for each of its messages, in order.

        `now` is monotonic seconds, `now_ms` the time of day.
        """
        try:
            messages = decode_client(data, fmt)
        except Refusal as refusal:
            return self._limited(now) or [Refuse(refusal)]
        effects: list[Effect] = []
        for message in messages:
            if isinstance(message, ClientMessage):
                effects += self._one(message, fmt, now, now_ms)
            else:
                fault, ident, method = message
                effects += self._limited(now, ident, method) or [Refuse(fault, ident, method)]
        return effects

    def _one(self, message: ClientMessage, fmt: Format, now: float, now_ms: int) -> list[Effect]:
        method = METHODS.get(message.method)
        if method is None or method.internal:
            text = f"There is no method `{message.method[:64]}`"
            return self._limited(now, message.id, message.method[:64]) or [
                Refuse(Refusal("unknown_method", text), message.id, message.method[:64])
            ]
        if method.counted:
            limited = self._limited(now, message.id, method.name)
            if limited:
                return limited
        try:
            return [self._meaning(method, message, fmt, now_ms)]
        except Refusal as refusal:
            return [Refuse(refusal, message.id, method.name)]

    def _meaning(self, method: Method, message: ClientMessage, fmt: Format, now_ms: int) -> Effect:
        if self.claims is None and method.name not in ("auth.login", "heartbeat"):
            raise Refusal("auth_required", "The first message must be `auth.login`")
        if self.role not in method.roles:
            raise Refusal("forbidden", f"A {self.role} may not use `{method.name}`")
        params: Struct = decode_params(message.params, method.params, fmt)
        if isinstance(params, presence.MoveCursor) and message.type == "event":
            return params
        if isinstance(params, canvas.Preview) and message.type == "event":
            return params
        if method.kind == "event":
            raise Refusal("invalid_data", f"`{method.name}` is an event: send it with `type` `event`")
        if isinstance(params, Login):
            return Authenticate(message.id, method.name, params.token)
        if isinstance(params, Heartbeat):
            return Reply(message.id, method.name, to_json(HeartbeatAnswer(now_ms)))
        assert self.claims is not None
        raw = params_as_json(message.params, fmt)
        command = CommandMessage(
            method.name, raw, self.claims.user_id, self.claims.username, self.role, message.id, self.id
        )
        return Ask(method, command, message.type == "request")

    def _limited(self, now: float, ident: str = "", method: str = "") -> list[Effect]:
        """Empty when the message may pass; else what happens instead (LI2)."""
        wait = self.bucket.take(now) if self.bucket is not None else 0.0
        if not wait:
            return []
        refusal = Refusal("rate_limited", f"Too many messages; wait {wait:.1f} s", retry_after=wait)
        if self._refusals is None:
            self._refusals = Refusals()
        if self._refusals.add(now):
            return [Refuse(refusal, ident, method), End(refusal)]
        return [Refuse(refusal, ident, method)]
