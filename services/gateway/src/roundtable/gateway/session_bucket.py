"""Adapter layer: the KV bucket of what must outlive a gateway, by plain requests. Must not know what its values mean.

nats-py's own bucket class will not do: it takes the marker that the server leaves for an expired key (`Nats-Marker-Reason`)
for an entry, leaves its own markers for ever, and has no TTL on an update. Reads ask the stream's leader: a replica that
lags behind would make a fresh ticket unknown, and a used one good.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncGenerator
from contextlib import aclosing
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from roundtable.common import subjects
from roundtable.common.schema.errors import Refusal

TIMEOUT: Final = 2.0
MARKER_TTL: Final = 60
"""Seconds that the trace of a removed key stays."""
_BATCH: Final = 1_000
_RACED: Final = frozenset({10071, 10164})
"""Wrong last sequence: on a single-server stream, and on a replicated one."""
_NO_MESSAGE: Final = 10037
_CAUGHT: Final = (nats.errors.Error, asyncio.TimeoutError, OSError)


class Raced(Exception):
    """No failure: somebody was faster, and the key is no longer at the expected revision."""


class Entry(NamedTuple):
    key: str
    value: bytes
    """Empty: the key was removed, or its time is over."""
    revision: int


class _ApiError(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Stored(msgspec.Struct):
    subject: str
    seq: int
    data: str = ""


class _State(msgspec.Struct):
    last_seq: int = 0


class _Answer(msgspec.Struct):
    """An acknowledgement, a stored message, or a stream's information."""

    seq: int = 0
    message: _Stored | None = None
    created: str = ""
    state: _State | None = None
    error: _ApiError | None = None


_decoder: Final = msgspec.json.Decoder(_Answer)


def fingerprint(secret: str) -> str:
    """The name that a key has in the bucket; from it nobody finds the secret, if that has 128 random bits."""
    return blake2b(secret.encode(), digest_size=16).hexdigest()


class SessionBucket:
    """All methods raise `Refusal` (unavailable) when the store does not answer; a write may then have taken effect or not."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream = f"KV_{subjects.SESSIONS_BUCKET}"
        self._prefix = f"$KV.{subjects.SESSIONS_BUCKET}."

    async def put(self, key: str, value: bytes, ttl_s: int, expected: int | None = None) -> int:
        """The new revision. `ttl_s` is in whole seconds, as the server counts. Raises `Raced` if `expected` no longer holds."""
        return await self._write(key, value, expected, {"Nats-TTL": str(ttl_s)})

    async def remove(self, key: str, expected: int | None = None) -> None:
        """Raises `Raced` if `expected` no longer holds: of many who remove one revision, one succeeds."""
        marker = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": str(MARKER_TTL)}
        await self._write(key, b"", expected, marker)

    async def get(self, key: str) -> Entry | None:
        found = await self._read({"last_by_subj": self._prefix + key})
        return found if found is not None and found.value else None

    async def next(self, pattern: str, revision: int) -> Entry | None:
        """The first entry at or after the revision whose key fits; those that have gone are told too, with no value."""
        return await self._read({"seq": max(revision, 1), "next_by_subj": self._prefix + pattern})

    async def rest(self, pattern: str, revision: int) -> AsyncGenerator[Entry, None]:
        """As `next` again and again, but for thousands: by a consumer in the server's memory, at a tenth of the time each."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=max(revision, 1),
            ack_policy=AckPolicy.NONE,
            filter_subject=self._prefix + pattern,
            inactive_threshold=10.0,
            mem_storage=True,
            num_replicas=1,
        )
        try:
            jetstream = self._client.jetstream(timeout=TIMEOUT)
            info = await jetstream.add_consumer(self._stream, config)
            async with aclosing(self._pulled(info.name, info.num_pending or 0)) as messages:
                async for message in messages:
                    key = message.subject.removeprefix(self._prefix)
                    yield Entry(key, message.data, int(message.metadata.sequence.stream))
            await jetstream.delete_consumer(self._stream, info.name)
        except _CAUGHT as error:
            raise _unavailable(error) from None

    async def _pulled(self, consumer: str, pending: int) -> AsyncGenerator[Msg, None]:
        """By a callback: nats-py's own `fetch` makes a task and a timer for each message."""
        arrived: asyncio.Queue[Msg] = asyncio.Queue()

        async def put(message: Msg) -> None:
            arrived.put_nowait(message)

        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox, cb=put)
        try:
            for asked in range(0, pending, _BATCH):
                wanted = {"batch": min(_BATCH, pending - asked), "expires": int(TIMEOUT * 1e9)}
                subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
                await self._client.publish(subject, msgspec.json.encode(wanted), reply=inbox)
                for _ in range(wanted["batch"]):
                    if arrived.empty():
                        async with asyncio.timeout(TIMEOUT):
                            message = await arrived.get()
                    else:
                        message = arrived.get_nowait()
                    if "Status" in (message.headers or {}):
                        raise nats.errors.TimeoutError  # the rest has gone, or the server has to: look again later
                    yield message
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def incarnation(self) -> tuple[str, int]:
        """When the bucket was made, and its latest revision: both tell a bucket made anew from the one that we know."""
        answer = await self._request(f"$JS.API.STREAM.INFO.{self._stream}", b"")
        if answer.state is None:
            raise _unavailable(answer.error)
        return answer.created, answer.state.last_seq

    async def _write(self, key: str, value: bytes, expected: int | None, headers: dict[str, str]) -> int:
        if expected is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expected)
        answer = await self._request(self._prefix + key, value, headers)
        if answer.error is None:
            return answer.seq
        if answer.error.err_code in _RACED:
            raise Raced(key)
        raise _unavailable(answer.error)

    async def _read(self, wanted: dict[str, Any]) -> Entry | None:
        answer = await self._request(f"$JS.API.STREAM.MSG.GET.{self._stream}", msgspec.json.encode(wanted))
        if answer.message is not None:
            key = answer.message.subject.removeprefix(self._prefix)
            return Entry(key, b64decode(answer.message.data), answer.message.seq)
        if answer.error is not None and answer.error.err_code == _NO_MESSAGE:
            return None
        raise _unavailable(answer.error)

    async def _request(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> _Answer:
        if not self._client.is_connected:
            raise _unavailable(None)  # nats-py would keep it, and send it when nobody expects it any more
        try:
            answer = await self._client.request(subject, payload, timeout=TIMEOUT, headers=headers)
            return _decoder.decode(answer.data)
        except (*_CAUGHT, msgspec.MsgspecError) as error:
            raise _unavailable(error) from None


def _unavailable(cause: Exception | _ApiError | None) -> Refusal:
    match cause:
        case None:
            why = "not connected"
        case _ApiError():
            why = cause.description
        case _:
            why = type(cause).__name__
    return Refusal("unavailable", f"The store of sessions did not answer ({why})", retry_after=1)
