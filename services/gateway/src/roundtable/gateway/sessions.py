"""Identity layer: tickets, refresh tokens and revocations, shared by all gateways (AU2, AU4). Knows no HTTP and no transports.

The bucket holds fingerprints of secrets, never a ticket or a refresh token itself, and every key has its TTL. What may happen
once only (redeeming, rotating) is a write at an expected revision: of many gateways that try, the stream lets one.
"""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple, NoReturn

import msgspec
from msgspec import Struct
from nats.aio.client import Client

from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.session import Claims
from roundtable.common.telemetry import log

from .auth import LEEWAY_S
from .revocations import Revocations
from .session_bucket import Raced, SessionBucket, fingerprint

TICKET_S: Final = 30
REFRESH_DAYS: Final = 30.0
_FAMILY_BYTES, _PROOF_BYTES, _SECRET_BYTES = 12, 18, 24
"""Multiples of three: base64 without padding."""
_TOKEN_BYTES: Final = _FAMILY_BYTES + _PROOF_BYTES + _SECRET_BYTES


class Grant(NamedTuple):
    """What a new family or a rotation gives: the next refresh token, and what the token to issue with it says."""

    refresh_token: str
    claims: Claims
    ttl_s: int


class _Family(Struct, frozen=True):
    """One login's line of refresh tokens, of which only the latest is good."""

    claims: Claims
    ttl_s: int
    proof: bytes
    """Fingerprint of the part that all tokens of the family share: who shows it had one of them once."""
    current: bytes
    """Fingerprint of the part that only the latest has."""


class _RefreshToken(NamedTuple):
    """The family's id, which is also the session's; the proof; the secret: 72 characters of base64url."""

    session: str
    proof: bytes
    secret: bytes

    @classmethod
    def read(cls, text: str) -> _RefreshToken:
        try:
            raw = urlsafe_b64decode(text) if len(text) == _TOKEN_BYTES // 3 * 4 else b""
        except ValueError:
            raw = b""
        if len(raw) != _TOKEN_BYTES:
            raise Refusal("token_invalid", "That is no refresh token of ours")
        split = _FAMILY_BYTES + _PROOF_BYTES
        return cls(urlsafe_b64encode(raw[:_FAMILY_BYTES]).decode(), raw[_FAMILY_BYTES:split], raw[split:])

    def __str__(self) -> str:
        raw = urlsafe_b64decode(self.session) + self.proof + self.secret
        return urlsafe_b64encode(raw).decode()

    def __repr__(self) -> str:
        return f"<refresh token of session {self.session}>"


class SessionStore:
    """`on_revoked` is called with the id of each session that was ended, at whatever gateway. `clock`: seconds since the epoch.

    All coroutines raise `Refusal` (unavailable) when the store does not answer.
    """

    def __init__(
        self,
        client: Client,
        on_revoked: Callable[[str], None] = lambda _: None,
        *,
        refresh_days: float = REFRESH_DAYS,
        poll_s: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bucket = SessionBucket(client)
        self._refresh_s = max(1, int(refresh_days * 86_400))
        self._clock = clock
        self.revocations: Final = Revocations(client, self._bucket, on_revoked, clock=clock, poll_s=poll_s)

    async def start(self) -> None:
        """Returns when all revocations are known. Raises `TimeoutError`."""
        await self.revocations.start()

    async def stop(self) -> None:
        await self.revocations.stop()

    def resync(self) -> None:
        """Call it when NATS is back."""
        self.revocations.resync()

    def is_revoked(self, session: str) -> bool:
        return session in self.revocations

    def check(self, claims: Claims) -> Claims:
        """The claims, if they still hold. Raises `Refusal`: `revoked`, `token_expired`."""
        if self.is_revoked(claims.session):
            raise Refusal("revoked", "This session was ended")
        if claims.expires_at is not None and claims.expires_at <= (self._clock() - LEEWAY_S) * 1_000:
            raise Refusal("token_expired", "The token's time is over")
        return claims

    async def issue_ticket(self, claims: Claims) -> tuple[str, int]:
        """A ticket that stands for a token with these claims once, and when it ends (ms)."""
        ticket = secrets.token_urlsafe(24)
        expires = int((self._clock() + TICKET_S) * 1_000)
        await self._bucket.put(f"ticket.{fingerprint(ticket)}", msgspec.msgpack.encode(claims), TICKET_S)
        return ticket, expires

    async def redeem(self, ticket: str) -> Claims:
        """The claims of a ticket, exactly once. Raises `Refusal`: `token_invalid`, `revoked`, `token_expired`."""
        invalid = Refusal(
            "token_invalid", "The ticket was used before, or is older than 30 s, or never was one"
        )
        if not ticket or len(ticket) > 128:
            raise invalid
        key = f"ticket.{fingerprint(ticket)}"
        entry = await self._bucket.get(key)
        if entry is None:
            raise invalid
        try:
            await self._bucket.remove(key, entry.revision)
        except Raced:
            raise invalid from None
        return self.check(msgspec.msgpack.decode(entry.value, type=Claims))

    async def start_family(self, claims: Claims, ttl_s: int) -> Grant:
        """A login: a session of its own, whose tokens live `ttl_s` and can be refreshed."""
        session = urlsafe_b64encode(secrets.token_bytes(_FAMILY_BYTES)).decode()
        token = _RefreshToken(session, secrets.token_bytes(_PROOF_BYTES), secrets.token_bytes(_SECRET_BYTES))
        claims = msgspec.structs.replace(claims, session=session, expires_at=None)
        family = _Family(claims, ttl_s, _mark(token.proof), _mark(token.secret))
        await self._bucket.put(_key(session), msgspec.msgpack.encode(family), self._refresh_s)
        return Grant(str(token), claims, ttl_s)

    async def rotate(self, refresh_token: str) -> Grant:
        """The next refresh token in exchange for the latest one. Raises `Refusal`: `token_invalid`, `revoked`.

        One that was used before ends its family and its session, since it was lost or stolen, and nobody can tell who of the
        two that have it is the thief (RFC 9700, 4.14.2). That is strict: also when only the first answer was lost.
        """
        shown = _RefreshToken.read(refresh_token)
        if self.is_revoked(shown.session):
            raise Refusal("revoked", "This session was ended")
        entry = await self._bucket.get(_key(shown.session))
        family = msgspec.msgpack.decode(entry.value, type=_Family) if entry is not None else None
        if entry is None or family is None or not compare_digest(family.proof, _mark(shown.proof)):
            raise Refusal("token_invalid", "That is no refresh token of ours, or its time is over")
        if not compare_digest(family.current, _mark(shown.secret)):
            await self._reused(shown.session)
        token = shown._replace(secret=secrets.token_bytes(_SECRET_BYTES))
        renewed = msgspec.structs.replace(family, current=_mark(token.secret))
        try:
            await self._replace(shown.session, msgspec.msgpack.encode(renewed), entry.revision)
        except Raced:
            await self._reused(shown.session)
        return Grant(str(token), family.claims, family.ttl_s)

    async def revoke(self, session: str, expires_at: int | None = None) -> None:
        """Ends a session: its tokens, wherever they are shown, and its refresh tokens. Repeating it does no harm.

        `expires_at` is the end (ms) of one of its tokens, for those that live longer than ours.
        """
        await self.revocations.add(session, expires_at)
        await self._bucket.remove(_key(session))

    async def _replace(self, session: str, family: bytes, revision: int) -> None:
        """As the bucket's `put`; if the answer was lost on the way, looks whether it took effect."""
        try:
            await self._bucket.put(_key(session), family, self._refresh_s, revision)
        except Refusal:
            entry = await self._bucket.get(_key(session))
            if entry is None or entry.value != family:
                raise

    async def _reused(self, session: str) -> NoReturn:
        log.warning("refresh_token.reused", session=session)
        await self.revoke(session)
        raise Refusal("revoked", "This refresh token was used before, so its session was ended")


def _key(session: str) -> str:
    return f"family.{fingerprint(session)}"


def _mark(secret: bytes) -> bytes:
    return blake2b(secret, digest_size=16).digest()
