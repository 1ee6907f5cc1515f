"""Schema layer: the two error tables, replies and closes, in one place. Knows no transport and no service.

Every refusal in the system is a `Refusal` whose reason is a key of `REASONS`. Documentation, both clients and the
AsyncAPI file are generated from the tables here, so a word that is not in them does not exist.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

Advice = Literal["stop", "reconnect", "backoff", "mend", "token", "wait"]
"""What a client does after an error or a close: see `ADVICE`."""

ADVICE: Final[dict[Advice, str]] = {
    "stop": "stops",
    "reconnect": "reconnects at once, with jitter and its cursor",
    "backoff": "reconnects with backoff and its cursor; repeats requests with their ids",
    "mend": "mends its message or its code; the connection stays open",
    "token": "gets a token, then reconnects",
    "wait": "waits `retryAfter` seconds",
}


class ErrorKind(Struct, frozen=True):
    """One row of the tables: what a reason word means, as an error and as a close."""

    code: int
    """WebSocket close code of the seed's table, the same in an error."""
    status: int
    """HTTP status of a request that fails as a whole for this reason."""
    advice: Advice
    meaning: str
    error: bool = True
    """May stand in an `error` message."""
    close: bool = True
    """May close a connection."""


REASONS: Final[dict[str, ErrorKind]] = {
    "bye": ErrorKind(1000, 200, "stop", "a normal end", error=False),
    "draining": ErrorKind(1001, 503, "reconnect", "this gateway is going away"),
    "protocol_error": ErrorKind(1002, 400, "backoff", "the WebSocket protocol was broken", error=False),
    "unsupported_data": ErrorKind(
        1003, 415, "stop", "a format that this connection or address does not take"
    ),
    "unknown_method": ErrorKind(1003, 404, "mend", "there is no such method", close=False),
    "invalid_data": ErrorKind(1007, 400, "mend", "the message is not what the contract says", close=True),
    "token_expired": ErrorKind(1008, 401, "token", "the token's time is over"),
    "token_invalid": ErrorKind(1008, 401, "stop", "the token is not one of ours"),
    "auth_required": ErrorKind(1008, 401, "stop", "a token is needed"),
    "auth_timeout": ErrorKind(1008, 401, "stop", "no login came in time"),
    "forbidden": ErrorKind(1008, 403, "stop", "the role or the user may not do this"),
    "invalid_room": ErrorKind(1008, 400, "stop", "no such room can be"),
    "origin_refused": ErrorKind(1008, 403, "stop", "the page's origin is not on the allow list"),
    "revoked": ErrorKind(1008, 401, "stop", "the session was ended by a logout or a revocation"),
    "rate_limited": ErrorKind(1008, 429, "wait", "too many messages or connections"),
    "too_big": ErrorKind(1009, 413, "mend", "the message is over the limit"),
    "internal": ErrorKind(1011, 500, "backoff", "something broke on our side"),
    "slow_consumer": ErrorKind(1013, 503, "backoff", "the client reads too slowly", error=False),
    "overloaded": ErrorKind(1013, 503, "backoff", "there is too much to do just now"),
    "unavailable": ErrorKind(1013, 503, "backoff", "a service behind the gateway did not answer in time"),
}

REPLY_ERRORS: Final = tuple(reason for reason, kind in REASONS.items() if kind.error)
CLOSE_REASONS: Final = tuple(reason for reason, kind in REASONS.items() if kind.close)


class ErrorBody(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The `error` of an error message: seed's `code` and `message`, with a word for programs (EN7)."""

    code: int
    message: str
    reason: str
    retry_after: float | UnsetType = UNSET
    """Seconds to wait, with `rate_limited`."""


class Refusal(Exception):
    """A request, connection or frame is refused, with the reason word, a text for people, and perhaps a wait.

    Raised by deciders, validators and the gateway alike; whoever speaks to the client turns it into an error message
    or a close frame. `message` names what was wrong and where; it must hold nothing secret.
    """

    def __init__(self, reason: str, message: str = "", *, retry_after: float | None = None) -> None:
        self.kind = REASONS[reason]
        self.reason = reason
        self.message = message or self.kind.meaning
        self.retry_after = retry_after
        super().__init__(f"{reason}: {self.message}")

    @property
    def body(self) -> ErrorBody:
        wait = UNSET if self.retry_after is None else round(self.retry_after, 3)
        return ErrorBody(self.kind.code, self.message, self.reason, wait)

    @classmethod
    def of(cls, body: ErrorBody) -> Refusal:
        """The refusal that a service put into its answer; a reason of a newer version becomes `internal`."""
        reason = body.reason if body.reason in REASONS else "internal"
        return cls(reason, body.message, retry_after=None if body.retry_after is UNSET else body.retry_after)
