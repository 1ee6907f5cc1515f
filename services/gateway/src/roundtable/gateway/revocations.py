"""Identity layer: which sessions were ended, known at every gateway within 2 s (AU4). Knows no tokens and no connections.

Two ways lead here. A message on core NATS comes at once, and may be lost; the bucket is the truth, and each gateway asks it
every second for what is new, by its sequence: one small request, and no consumer or watcher that could stop unnoticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from roundtable.common import subjects
from roundtable.common.schema.errors import Refusal
from roundtable.common.telemetry import log

from .session_bucket import SessionBucket, fingerprint

KEEP_S: Final = 31 * 86_400 + 60
"""The longest life of a token that we issue, with leeway: after it, a revocation has nothing left to refuse."""
LONGEST_S: Final = 10 * 365 * 86_400
MAX_KNOWN: Final = 250_000
"""Revocations in memory: about 45 MB."""
_ONE_BY_ONE: Final = 64
"""New ones that are asked for singly, before it pays to open a consumer."""
_PRUNE_S: Final = 600.0


class Revocation(Struct, frozen=True):
    """The value in the bucket, and the message. A session's id is no secret: every token shows it."""

    session: str
    until: int
    """Seconds since the epoch."""


class Revocations:
    """`on_revoked` is called with each session id that is newly known to be ended, wherever that was asked for."""

    def __init__(
        self,
        client: Client,
        bucket: SessionBucket,
        on_revoked: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
        poll_s: float = 1.0,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._on_revoked = on_revoked
        self._clock = clock
        self._poll_s = poll_s
        self._until: dict[str, int] = {}
        self._seen = 0
        self._created = ""
        self._good_at = float("-inf")
        self._pruned_at = clock()
        self._polling: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None

    async def start(self, *, within: float = 10.0) -> None:
        """Returns when all that was ever revoked is known. Raises `TimeoutError` if the store does not tell it in time."""
        self._subscription = await self._client.subscribe(subjects.REVOKED, cb=self._heard)
        deadline = time.monotonic() + within
        while not await self._look(doubt=True):
            if time.monotonic() > deadline:
                raise TimeoutError("the store does not tell which sessions are revoked")
            await asyncio.sleep(0.1)
        self._polling = asyncio.create_task(self._poll(doubt=False), name="revocations")

    async def stop(self) -> None:
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await polling
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()

    def resync(self) -> None:
        """Call it when NATS is back: looks at once. What was asked of the lost connection would only time out."""
        if self._polling is not None:
            self._polling.cancel()
            self._polling = asyncio.create_task(self._poll(doubt=True), name="revocations")

    @property
    def age(self) -> float:
        """Seconds since we last knew all; infinite before the first time."""
        return self._clock() - self._good_at

    def __contains__(self, session: str) -> bool:
        return bool(session) and fingerprint(session) in self._until

    async def add(self, session: str, expires_at: int | None = None) -> None:
        """Stored when it returns, and told to all. `expires_at` is the end (ms) of a token of that session, if one is known.

        Raises `Refusal` (unavailable) if it can't be stored: then it may be known here and there, or not at all.
        """
        now = self._clock()
        keep = min(max(KEEP_S, (expires_at or 0) / 1_000 - now + 60), LONGEST_S)
        revocation = Revocation(session, int(now + keep))
        packed = msgspec.msgpack.encode(revocation)
        await self._bucket.put(f"revoked.{fingerprint(session)}", packed, int(keep))
        self._learn(revocation)
        with contextlib.suppress(nats.errors.Error):  # the others look by themselves
            await self._client.publish(subjects.REVOKED, packed)

    async def _heard(self, message: Msg) -> None:
        self._read(message.data)

    async def _poll(self, *, doubt: bool) -> None:
        me = asyncio.current_task()
        while True:
            doubt = not await self._look(doubt=doubt)
            if self._polling is not me:
                return  # cancelled, but `asyncio.wait_for` in nats-py's request swallowed that, as it may before Python 3.12
            if self._clock() - self._pruned_at > _PRUNE_S:
                self._prune()
            await asyncio.sleep(self._poll_s)

    async def _look(self, *, doubt: bool) -> bool:
        """Takes in what is new in the bucket; False if that could not be found out. `doubt`: it may be another bucket."""
        try:
            if doubt:
                created, last = await self._bucket.incarnation()
                if created != self._created or last < self._seen:
                    self._created, self._seen = created, 0
            await self._catch_up()
        except Refusal as refusal:
            if not doubt:
                log.warning("revocations.unknown", error=refusal.message)
            return False
        self._good_at = self._clock()
        return True

    async def _catch_up(self) -> None:
        for _ in range(_ONE_BY_ONE):
            entry = await self._bucket.next("revoked.*", self._seen + 1)
            if entry is None:
                return
            self._read(entry.value)
            self._seen = entry.revision
        async with contextlib.aclosing(self._bucket.rest("revoked.*", self._seen + 1)) as entries:
            async for entry in entries:
                self._read(entry.value)
                self._seen = entry.revision

    def _read(self, packed: bytes) -> None:
        if not packed:  # the marker of one whose time is over
            return
        try:
            self._learn(msgspec.msgpack.decode(packed, type=Revocation))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("revocations.unreadable", error=str(error))

    def _learn(self, revocation: Revocation) -> None:
        name = fingerprint(revocation.session)
        known = self._until.get(name)
        if known is not None:
            self._until[name] = max(known, revocation.until)
            return
        if revocation.until <= self._clock():
            return
        if len(self._until) >= MAX_KNOWN:
            self._prune()
        if len(self._until) >= MAX_KNOWN:
            log.error("revocations.full", known=len(self._until))
            oldest = next(iter(self._until))  # its tokens are the likeliest to have expired
            del self._until[oldest]
        self._until[name] = revocation.until
        try:
            self._on_revoked(revocation.session)
        except Exception:  # noqa: BLE001 - one listener's fault must not end the listening
            log.exception("revocations.listener_failed")

    def _prune(self) -> None:
        self._pruned_at = now = self._clock()
        self._until = {name: until for name, until in self._until.items() if until > now}
