"""Adapter layer: reads a whole stream from a place on, as it grows. Knows NATS, but nothing of what the messages say.

By an ephemeral pull consumer without acknowledgements: the place is the reader's own affair, so nothing can be redelivered,
overtaken or held back, and the server has no state to keep on disk. Whatever goes wrong, one opens another after the last
message taken. nats-py's own `fetch` is not used: with a trickle of messages it holds the first until its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Final

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from roundtable.common import subjects
from roundtable.common.eventlog import LogMessage

BATCH: Final = 500
BATCH_BYTES: Final = 16 << 20
EXPIRES: Final = 1.0
_GRACE: Final = 1.0
_ENDS_REQUEST: Final = frozenset({"404", "408"})
_TOO_MANY_BYTES: Final = "Message Size Exceeds MaxBytes"


class Broken(Exception):
    """This reader has lost its consumer, or a message: open another one."""


class Tail:
    """Use as an asynchronous context manager."""

    def __init__(self, client: Client, stream: str, after: int) -> None:
        self.pending = 0
        """Messages in the stream that have not been taken yet, as the server said with the last one."""
        self._client = client
        self._stream = stream
        self._after = after
        self._consumer = ""
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._received: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._asked = 0
        self._count = 0

    async def __aenter__(self) -> Tail:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._after + 1,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=30.0,
        )
        self._subscription = await self._client.subscribe(self._inbox, cb=self._on_message)
        info = await self._client.jetstream(timeout=2).add_consumer(self._stream, config)
        self._consumer = info.name
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leaves nothing behind where the server can be reached; else the server forgets the consumer by itself."""
        if not self._client.is_connected:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            if self._consumer:
                await self._client.jetstream(timeout=1).delete_consumer(self._stream, self._consumer)

    def interrupt(self) -> None:
        """Lets `take` return at once."""
        self._arrived.set()

    async def take(self) -> list[LogMessage]:
        """What has come, oldest first; nothing after about a second of silence. Raises `Broken`."""
        if not self._received:
            if self._asked <= 0:
                await self._ask()
            try:
                async with asyncio.timeout(EXPIRES + _GRACE):
                    await self._arrived.wait()
            except TimeoutError:
                raise Broken("the consumer is silent") from None
        messages = []
        while self._received:
            message = self._received.popleft()
            if message.headers and "Status" in message.headers and not message.data:
                self._on_status(message.headers["Status"], message.headers.get("Description", ""))
            else:
                messages.append(self._taken(message))
        self._arrived.clear()
        return messages

    async def _ask(self) -> None:
        request = {"batch": BATCH, "max_bytes": BATCH_BYTES, "expires": int(EXPIRES * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        await self._client.publish(subject, msgspec.json.encode(request), reply=self._inbox)
        self._asked = BATCH

    async def _on_message(self, message: Msg) -> None:
        self._received.append(message)
        self._arrived.set()

    def _on_status(self, status: str, description: str) -> None:
        if status not in _ENDS_REQUEST and description != _TOO_MANY_BYTES:
            raise Broken(f"{status} {description}")
        self._asked = 0

    def _taken(self, message: Msg) -> LogMessage:
        metadata = message.metadata
        self._count += 1
        if metadata.sequence.consumer != self._count:
            raise Broken(f"message {self._count} of the consumer was lost")
        self._asked -= 1
        self.pending = metadata.num_pending
        return LogMessage(subjects.room_of(message.subject), metadata.sequence.stream, message.data)
