"""Adapter layer: leases, by which a gateway's death is known though it said nothing (PR2). Knows no room and no connection.

A gateway keeps one key alive in a bucket whose entries live ten seconds; the key's name is the gateway's id in all that it
tells the presence service. Each write expects the sequence of the one before it. So a write that a broken connection sends
again too late is refused, and a lease that has ended cannot come back: its holder takes a new name.

A dead key leaves a marker. The stream republishes what it stores, headers only, and so markers reach the watchers on core
NATS, without a consumer that could stall. A watcher may miss one: who must know asks `live_gateways`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import DiscardPolicy, RePublish, StorageType, StreamConfig
from nats.js.client import JetStreamContext

from .subjects import GATEWAYS_BUCKET
from .tasks import end
from .telemetry import log

T = TypeVar("T")

TTL: Final = 10
"""Seconds; the server takes whole ones only."""
RENEW_EVERY: Final = 3.0
MARKER_TTL: Final = 60
"""Seconds that a dead key's marker stays."""
ANSWER_TIMEOUT: Final = 1.0
RETRY_EVERY: Final = 0.5
ANNOUNCED: Final = "rt.ctl.lease"
"""Where the stream republishes; the key follows."""

STREAM: Final = f"KV_{GATEWAYS_BUCKET}"
_KEYS: Final = f"$KV.{GATEWAYS_BUCKET}."
_CONFLICTS: Final = frozenset({10071, 10164})
_NO_MESSAGE: Final = 10037
_NAME_IN_USE: Final = 10058
_ENDED: Final = ("Nats-Marker-Reason", "KV-Operation")
"""Headers of what is no value: the server's marker, or a deletion."""
_UNANSWERED: Final = (
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    asyncio.TimeoutError,
    OSError,
)


class LeasesUnavailable(Exception):
    """NATS did not answer, or not with what was asked for."""


class _Superseded(Exception):
    """The key's last sequence is not the expected one."""


class _ApiError(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    seq: int = 0
    error: _ApiError | None = None


class _Entry(msgspec.Struct):
    seq: int
    hdrs: str = ""


class _GetAnswer(msgspec.Struct):
    message: _Entry | None = None
    error: _ApiError | None = None


class _State(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _InfoAnswer(msgspec.Struct):
    state: _State | None = None
    error: _ApiError | None = None


def bucket_config(replicas: int) -> StreamConfig:
    """The bucket's stream. On file: a short restart of NATS ends no lease. Without direct gets: they may be stale."""
    return StreamConfig(
        name=STREAM,
        subjects=[f"{_KEYS}>"],
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_msgs_per_subject=1,
        max_msg_size=1024,
        discard=DiscardPolicy.NEW,
        allow_rollup_hdrs=True,
        allow_direct=False,
        allow_msg_ttl=True,
        subject_delete_marker_ttl=MARKER_TTL,
        republish=RePublish(src=f"{_KEYS}>", dest=f"{ANNOUNCED}.>", headers_only=True),
    )


async def provision_leases(jetstream: JetStreamContext, replicas: int) -> None:
    """Creates the bucket, or brings it to its configuration. Raises `nats.errors.Error` when the server refuses."""
    config = bucket_config(replicas)
    try:
        there = (await jetstream.stream_info(STREAM)).config
    except nats.js.errors.NotFoundError:
        try:
            await jetstream.add_stream(config)
            log.info("bucket.created", bucket=GATEWAYS_BUCKET)
        except nats.js.errors.BadRequestError as error:
            if error.err_code != _NAME_IN_USE:  # else another instance was faster
                raise
        return
    ours = ("num_replicas", "allow_direct", "allow_msg_ttl", "subject_delete_marker_ttl", "republish")
    if any(getattr(there, name) != getattr(config, name) for name in ours):
        config.deny_delete = there.deny_delete
        await jetstream.update_stream(config)
        log.info("bucket.updated", bucket=GATEWAYS_BUCKET)


class GatewayLease:
    """A gateway's side. Once acquired it renews itself, through any break of NATS, until it is released.

    If it was lost all the same (the process stood still, NATS was away, the bucket is another one), it goes on under a new
    id, and `on_lost` is called with that: the presence of every connection must then be opened again under it.
    """

    def __init__(
        self,
        client: Client,
        instance: str,
        on_lost: Callable[[str], Awaitable[None]],
        *,
        ttl: int = TTL,
        renew_every: float = RENEW_EVERY,
    ) -> None:
        self._client = client
        self._instance = re.sub(r"[^A-Za-z0-9_-]", "-", instance)[:48] or "gateway"
        self._on_lost = on_lost
        self._ttl = ttl
        self._renew_every = renew_every
        self._id = self._new_id()
        self._seq = 0
        self._sure_until = 0.0
        self._keeping: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """The gateway's id now; a valid KV key. Names this start of this instance, or what followed a loss."""
        return self._id

    @property
    def alive(self) -> bool:
        """Whether the lease certainly holds: it was renewed less than its life ago."""
        return self.left > 0

    @property
    def left(self) -> float:
        """Seconds for which it certainly holds."""
        return max(0.0, self._sure_until - time.monotonic())

    async def acquire(self, within: float = 60.0) -> str:
        """Returns the id when the lease is stored. Raises `TimeoutError`."""
        deadline = time.monotonic() + within
        while True:
            try:
                if await self._write():
                    break
                self._rename()
            except LeasesUnavailable as error:
                if time.monotonic() + RETRY_EVERY > deadline:
                    raise TimeoutError(f"no lease within {within:g} s: {error}") from None
                log.warning("lease.waiting", error=str(error))
                await asyncio.sleep(RETRY_EVERY)
        self._keeping = asyncio.create_task(self._keep(), name="lease")
        return self._id

    async def release(self) -> None:
        """Ends the lease at once, where NATS can be reached; else its time ends it."""
        await end(self._keeping, self._telling)
        self._sure_until = 0.0
        if self._client.is_connected:
            ended = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": f"{MARKER_TTL}s"}
            with contextlib.suppress(LeasesUnavailable, _Superseded):
                await _publish(self._client, self._id, b"", ended)

    async def _keep(self) -> None:
        wait, lost = self._renew_every, False
        while True:
            await self._pause(wait)
            wait = RETRY_EVERY
            try:
                if await self._write():
                    wait = self._renew_every
                    if lost:
                        log.info("lease.taken", lease=self._id)
                        self._tell()
                    lost = False
                else:
                    log.warning("lease.lost", lease=self._id)
                    self._rename()
                    wait, lost = 0.0, True
            except LeasesUnavailable as error:
                log.warning("lease.unanswered", lease=self._id, error=str(error))

    async def _pause(self, seconds: float) -> None:
        """Lasts while there is no connection, for what would be written now is sent later; and ends when it is back."""
        until = time.monotonic() + seconds
        while (away := not self._client.is_connected) or time.monotonic() < until:
            until = 0.0 if away else until
            await asyncio.sleep(0.1)

    async def _write(self) -> bool:
        """Writes the key; False if the lease has ended. Raises `LeasesUnavailable`, and then it may be written or not."""
        began = time.monotonic()
        headers = {"Nats-TTL": f"{self._ttl}s"}
        for _ in range(3):
            expected = {"Nats-Expected-Last-Subject-Sequence": str(self._seq)}
            try:
                self._seq = await _publish(
                    self._client, self._id, self._instance.encode(), headers | expected
                )
            except _Superseded:
                # Nobody else writes this key: a value is an earlier write of ours whose answer we never saw.
                seq = await _value_of(self._client, self._id)
                if seq is None:
                    return False
                self._seq = seq
            else:
                self._sure_until = began + self._ttl
                return True
        raise LeasesUnavailable("earlier writes keep arriving")

    def _new_id(self) -> str:
        return f"{self._instance}.{secrets.token_hex(4)}"

    def _rename(self) -> None:
        self._id, self._seq, self._sure_until = self._new_id(), 0, 0.0

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()  # it speaks of an id that is lost as well
        self._telling = asyncio.create_task(self._call_on_lost(self._id), name="lease lost")

    async def _call_on_lost(self, new_id: str) -> None:
        try:
            await self._on_lost(new_id)
        except Exception as error:  # noqa: BLE001 - whatever it was, the lease goes on
            log.exception("lease.on_lost_failed", lease=new_id, error=repr(error))


class GatewayLeases:
    """The presence service's side: which gateways live."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def live_gateways(self) -> frozenset[str]:
        """The ids whose leases hold, by the stream's leader. Raises `LeasesUnavailable`.

        A lease that was stored before the call and has not ended is in it, unless a leader that is being replaced answers:
        who acts on an absence asks twice.
        """
        request = msgspec.json.encode({"subjects_filter": f"{_KEYS}>"})
        info = await _request(self._client, f"$JS.API.STREAM.INFO.{STREAM}", request, _InfoAnswer)
        if info.state is None:
            raise LeasesUnavailable(info.error.description if info.error else "no stream info")
        keys = [subject.removeprefix(_KEYS) for subject in info.state.subjects or ()]
        values = await asyncio.gather(*(_value_of(self._client, key) for key in keys))
        return frozenset(key for key, seq in zip(keys, values, strict=True) if seq is not None)

    async def watch_expiry(self, callback: Callable[[str], None]) -> Subscription:
        """Calls back with each id whose lease has ended, mostly at once; unsubscribe to end it. May miss some."""

        async def on_stored(message: Msg) -> None:
            if any(name in (message.headers or {}) for name in _ENDED):
                callback(message.subject.removeprefix(f"{ANNOUNCED}."))

        return await self._client.subscribe(f"{ANNOUNCED}.>", cb=on_stored)


async def _publish(client: Client, key: str, payload: bytes, headers: dict[str, str]) -> int:
    """Stores and returns the sequence. Raises `_Superseded` or `LeasesUnavailable`."""
    ack = await _request(client, f"{_KEYS}{key}", payload, _Ack, headers)
    if ack.error is None:
        return ack.seq
    if ack.error.err_code in _CONFLICTS:
        raise _Superseded(key)
    raise LeasesUnavailable(ack.error.description)


async def _value_of(client: Client, key: str) -> int | None:
    """The sequence of the key's value, by the leader; None if it has none. Raises `LeasesUnavailable`."""
    request = msgspec.json.encode({"last_by_subj": f"{_KEYS}{key}"})
    got = await _request(client, f"$JS.API.STREAM.MSG.GET.{STREAM}", request, _GetAnswer)
    if got.message is not None:
        headers = b64decode(got.message.hdrs).decode(errors="replace").split("\r\n")
        ended = any(line.startswith(name + ":") for line in headers for name in _ENDED)
        return None if ended else got.message.seq
    if got.error is not None and got.error.err_code == _NO_MESSAGE:
        return None
    raise LeasesUnavailable(got.error.description if got.error else "an answer that says nothing")


async def _request(
    client: Client, subject: str, payload: bytes, kind: type[T], headers: dict[str, str] | None = None
) -> T:
    if not client.is_connected:  # nats-py would keep it, and send it when nobody waits for it any more
        raise LeasesUnavailable(f"{subject}: no connection")
    try:
        answer = await client.request(subject, payload, timeout=ANSWER_TIMEOUT, headers=headers)
        return msgspec.json.decode(answer.data, type=kind)
    except (*_UNANSWERED, msgspec.MsgspecError) as error:
        raise LeasesUnavailable(f"{subject}: {error!r}") from error
