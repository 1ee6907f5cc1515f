"""Pure layer: what can go wrong, as exceptions, and what a client does after it, from the one table. Knows no transport."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET

from roundtable.common.schema.errors import REASONS, Advice, ErrorBody

LOST: Final = 1006
"""The code for a connection that ended without a word."""


class RoundtableError(Exception):
    """A request was refused, or a connection was. `reason` is the word for programs, `message` the text for people."""

    def __init__(self, code: int, reason: str, message: str = "", retry_after: float | None = None) -> None:
        self.code = code
        self.reason = reason
        self.message = message or (REASONS[reason].meaning if reason in REASONS else reason)
        self.retry_after = retry_after
        """Seconds to wait, where waiting helps."""
        super().__init__(f"{reason or code}: {self.message}")

    @classmethod
    def of(cls, body: ErrorBody) -> RoundtableError:
        wait = None if body.retry_after is UNSET else body.retry_after
        return cls(body.code, body.reason, body.message, wait)

    @property
    def advice(self) -> Advice:
        return advice_of(self.code, self.reason)


class RequestTimeout(RoundtableError, TimeoutError):
    """No answer came in time. The request may have taken effect."""

    def __init__(self, message: str) -> None:
        super().__init__(1013, "timeout", message)


class Unreachable(RoundtableError, ConnectionError):
    """No transport leads to the server, for now."""

    def __init__(self, message: str) -> None:
        super().__init__(LOST, "unreachable", message)


def advice_of(code: int, reason: str) -> Advice:
    """By the reason; by the code where the reason is none that we know, as from a proxy or a newer server."""
    if reason in REASONS:
        return REASONS[reason].advice
    match code:
        case 1000 | 1003 | 1008:
            return "stop"
        case 1001:
            return "reconnect"
        case 1007 | 1009:
            return "mend"
        case _:
            return "backoff"
