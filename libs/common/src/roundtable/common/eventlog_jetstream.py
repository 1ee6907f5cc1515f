"""Adapter layer: the event log on a JetStream stream. Knows NATS, but nothing of what the messages say.

Uses plain requests instead of nats-py's JetStream client where that is wrong or slow: its asynchronous publish never
resolves on a stream's error, and it has no batched direct get. A direct get may be answered by a replica that lags behind
its leader, so "there is nothing" is only believed from the leader (`STREAM.MSG.GET`).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from . import subjects
from .appends import ApiError, Appends
from .eventlog import LogFull, LogMessage, LogUnavailable
from .schema.log import Service

READ_TIMEOUT: Final = 2.0
HEADS_AT_ONCE: Final = 64
"""Messages on their way at a time: even long ones stay below what nats-py drops."""
_NO_MESSAGE: Final = 10037
_CAUGHT: Final = (nats.errors.Error, OSError)

T = TypeVar("T")


class _Stored(msgspec.Struct):
    subject: str
    seq: int
    data: str = ""


class _GetAnswer(msgspec.Struct):
    message: _Stored | None = None
    error: ApiError | None = None


class _StreamState(msgspec.Struct):
    first_seq: int = 0


class _InfoAnswer(msgspec.Struct):
    state: _StreamState | None = None
    error: ApiError | None = None


_got = msgspec.json.Decoder(_GetAnswer).decode
_info = msgspec.json.Decoder(_InfoAnswer).decode


class JetStreamEventLog:
    """One service's stream."""

    def __init__(self, client: Client, service: Service) -> None:
        self._client = client
        self._service: Service = service
        self._stream = subjects.stream(service)
        self._appends = Appends(client, service)

    async def append(self, room: str, payload: bytes, expected: int) -> int:
        if len(payload) > self._client.max_payload - 1024:
            raise LogFull(f"{len(payload)} bytes are more than one message may hold")
        return await self._appends.append(room, payload, expected)

    async def read(self, room: str, after: int, limit: int = 256) -> list[LogMessage]:
        subject = subjects.events(self._service, room)
        first = await self._from_leader({"seq": max(after, 0) + 1, "next_by_subj": subject})
        if first is None:
            return []
        messages = [first]
        if limit > 1:
            messages += await self._batch(subject, first.seq + 1, limit - 1)
        return messages

    async def get(self, seq: int) -> LogMessage | None:
        return await self._from_leader({"seq": seq}) if seq > 0 else None

    async def last(self, room: str) -> int:
        message = await self._from_leader({"last_by_subj": subjects.events(self._service, room)})
        return 0 if message is None else message.seq

    async def first(self) -> int:
        info = await self._request(f"$JS.API.STREAM.INFO.{self._stream}", b"", _info)
        if info.state is None:
            raise LogUnavailable(info.error.description if info.error else "no stream info")
        return max(info.state.first_seq, 1)

    async def heads(self) -> AsyncIterator[LogMessage]:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.NONE,
            filter_subject=subjects.events(self._service, "*"),
            inactive_threshold=10.0,
            mem_storage=True,
            num_replicas=1,
        )
        jetstream = self._client.jetstream(timeout=READ_TIMEOUT)
        try:
            info = await jetstream.add_consumer(self._stream, config)
            async with aclosing(self._pull(info.name, info.num_pending or 0)) as messages:
                async for message in messages:
                    yield message
            await jetstream.delete_consumer(self._stream, info.name)
        except _CAUGHT as error:
            raise LogUnavailable(f"no heads: {error!r}") from error

    async def _pull(self, consumer: str, pending: int) -> AsyncGenerator[LogMessage, None]:
        """All that stood in the stream when the consumer was made; what comes later would come after it."""
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        count, status = 0, None
        while count < pending:
            # Without waiting: what retention takes meanwhile is not waited for. And without `max_bytes`: the message that
            # would exceed it is never delivered to a consumer without acknowledgements.
            batch = min(pending - count, HEADS_AT_ONCE)
            request = msgspec.json.encode({"batch": batch, "no_wait": True})
            before = count
            async with aclosing(self._answers(subject, request)) as answers:
                async for message in answers:
                    status = (message.headers or {}).get("Status")
                    if status is not None:
                        break
                    sequence = message.metadata.sequence
                    count += 1
                    if sequence.consumer != count:
                        raise LogUnavailable("one of the stream's heads was lost")
                    yield LogMessage(subjects.room_of(message.subject), sequence.stream, message.data)
                    if count - before == batch:
                        break
            if status == "404":
                return
            if count == before:
                raise LogUnavailable(f"the stream's heads stopped coming: {status}")

    async def _batch(self, subject: str, seq: int, limit: int) -> list[LogMessage]:
        """Up to `limit` further messages by one direct get; fewer (even none) says nothing about what there is."""
        request = msgspec.json.encode(
            {"seq": seq, "next_by_subj": subject, "batch": limit, "max_bytes": 4 << 20}
        )
        found: list[LogMessage] = []
        async with aclosing(self._answers(f"$JS.API.DIRECT.GET.{self._stream}", request)) as answers:
            async for message in answers:
                headers = message.headers or {}
                if "Status" in headers:
                    break
                room = subjects.room_of(headers["Nats-Subject"])
                found.append(LogMessage(room, int(headers["Nats-Sequence"]), message.data))
        return found

    async def _answers(self, subject: str, request: bytes) -> AsyncGenerator[Msg, None]:
        """The messages that answer one request, until the caller has had enough."""
        self._must_be_connected(subject)
        try:
            inbox = self._client.new_inbox()
            subscription = await self._client.subscribe(inbox)
            try:
                await self._client.publish(subject, request, reply=inbox)
                while True:
                    yield await subscription.next_msg(timeout=READ_TIMEOUT)
            finally:
                if not self._client.is_closed:
                    await subscription.unsubscribe()
        except _CAUGHT as error:
            raise LogUnavailable(f"no answer on {subject}: {error!r}") from error

    async def _from_leader(self, request: dict[str, Any]) -> LogMessage | None:
        subject = f"$JS.API.STREAM.MSG.GET.{self._stream}"
        got = await self._request(subject, msgspec.json.encode(request), _got)
        if got.message is not None:
            return LogMessage(
                subjects.room_of(got.message.subject), got.message.seq, b64decode(got.message.data)
            )
        if got.error is not None and got.error.err_code == _NO_MESSAGE:
            return None
        raise LogUnavailable(got.error.description if got.error else "an answer that says nothing")

    async def _request(
        self,
        subject: str,
        payload: bytes,
        decode: Callable[[bytes], T],
        timeout: float = READ_TIMEOUT,
        headers: dict[str, str] | None = None,
    ) -> T:
        self._must_be_connected(subject)
        try:
            answer = await self._client.request(subject, payload, timeout=timeout, headers=headers)
            return decode(answer.data)
        except (*_CAUGHT, msgspec.MsgspecError) as error:
            raise LogUnavailable(f"no answer on {subject}: {error!r}") from error

    def _must_be_connected(self, subject: str) -> None:
        """nats-py would keep what is sent now, and send it when nobody waits for it any more."""
        if not self._client.is_connected:
            raise LogUnavailable(f"no connection for {subject}")
