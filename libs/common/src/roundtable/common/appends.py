"""Adapter layer: appends to a JetStream stream, those of many rooms in one commit. Knows nothing of what the messages say.

The disk bounds the syncs a second, so where many rooms write at once their messages are committed as one atomic batch, with
a handful of syncs in all (ADR 0008). Each message carries its own expected sequence and is judged by it as it would be alone:

- a batch holds at most one message of a room, and is stored whole or not at all;
- if it is refused nothing of it was stored, and each of its messages is sent again alone, to get its own answer;
- if it is not answered, none of them is known to be stored, and none not to be.
While few write nobody waits for anybody: up to `BATCH_FROM` messages are on their way alone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import nats.errors
from nats.aio.client import Client

from . import subjects
from .eventlog import Conflict, LogFull, LogUnavailable
from .schema.log import Service
from .telemetry import log

TIMEOUT: Final = 2.0
BATCH_FROM: Final = 10
"""Messages from which a batch costs the server less than as many alone, even on a disk that syncs at once."""
BATCH_AT_MOST: Final = 500
"""Half of what the server takes."""
BATCH_BYTES: Final = 8 << 20
_CONFLICTS: Final = frozenset({10071, 10164})
"""Wrong last sequence: on a single-server stream, and on a replicated one."""
_FULL: Final = frozenset({10054, 10077, 10047, 10023, 10122, 10002})
"""Message too large, stream full by bytes or messages, no storage."""


class ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    seq: int = 0
    batch: str = ""
    count: int = 0
    error: ApiError | None = None


class _Config(msgspec.Struct):
    allow_atomic: bool = False


class _Info(msgspec.Struct):
    config: _Config | None = None


_ack: Final = msgspec.json.Decoder(_Ack).decode
_info: Final = msgspec.json.Decoder(_Info).decode


class _Append(NamedTuple):
    room: str
    payload: bytes
    expected: int
    stored: asyncio.Future[int | None]
    """Its sequence; None: it shall be sent alone."""


class Appends:
    """To one service's stream."""

    def __init__(self, client: Client, service: Service) -> None:
        self._client = client
        self._service: Service = service
        self._waiting: list[_Append] = []
        self._alone = 0
        """Messages on their way alone."""
        self._batch: asyncio.Task[None] | None = None
        self._atomic: bool | None = None
        """Whether the stream takes batches; unknown until the first could be used."""

    async def append(self, room: str, payload: bytes, expected: int) -> int:
        """As `EventLog.append`."""
        if self._atomic is False or (self._batch is None and self._alone < BATCH_FROM):
            return await self._send(room, payload, expected)
        one = _Append(room, payload, expected, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._go_on()
        seq = await one.stored
        return seq if seq is not None else await self._send(room, payload, expected)

    def _go_on(self) -> None:
        """Lets go what waits, if it is its time."""
        if self._batch is not None or not self._waiting:
            return
        if len(self._waiting) >= BATCH_FROM:
            self._batch = asyncio.create_task(self._send_together(self._take()), name="batch")
            self._batch.add_done_callback(self._done)
        elif self._alone < BATCH_FROM:
            few, self._waiting = self._waiting, []
            for one in few:
                _settle(one, None)

    def _done(self, _: asyncio.Task[None]) -> None:
        self._batch = None
        self._go_on()

    def _take(self) -> list[_Append]:
        """The next batch: of each room the first, so that no two expect the same."""
        taken: dict[str, _Append] = {}
        left: list[_Append] = []
        size = 0
        for one in self._waiting:
            if one.stored.done():
                continue  # nobody waits for it any more
            if one.room in taken or len(taken) >= BATCH_AT_MOST or size > BATCH_BYTES:
                left.append(one)
            else:
                taken[one.room] = one
                size += len(one.payload)
        self._waiting = left
        return list(taken.values())

    async def _send_together(self, batch: Sequence[_Append]) -> None:
        seqs: Sequence[int | None] = [None] * len(batch)
        try:
            if len(batch) >= BATCH_FROM and await self._is_atomic():
                seqs = await self._commit(batch) or seqs
        except (LogUnavailable, nats.errors.Error, OSError, msgspec.MsgspecError) as error:
            for one in batch:
                if not one.stored.done():
                    one.stored.set_exception(LogUnavailable(f"no answer to a batch: {error!r}"))
        for one, seq in zip(batch, seqs, strict=True):
            _settle(one, seq)

    async def _commit(self, batch: Sequence[_Append]) -> Sequence[int] | None:
        """The messages' sequences; None: refused, so nothing was stored."""
        self._must_be_connected()
        ident = secrets.token_hex(16)
        for number, one in enumerate(batch, 1):
            subject = subjects.events(self._service, one.room)
            headers = {
                "Nats-Batch-Id": ident,
                "Nats-Batch-Sequence": str(number),
                "Nats-Expected-Last-Subject-Sequence": str(one.expected),
            }
            if number < len(batch):
                await self._client.publish(subject, one.payload, headers=headers)
            else:
                headers["Nats-Batch-Commit"] = "1"
                answer = await self._client.request(subject, one.payload, timeout=TIMEOUT, headers=headers)
        ack = _ack(answer.data)
        if ack.error is not None:
            log.debug("batch.refused", messages=len(batch), error=ack.error.description)
            return None
        if ack.batch != ident or ack.count != len(batch):
            self._atomic = False
            raise LogUnavailable("an acknowledgement of something else")
        return range(ack.seq - len(batch) + 1, ack.seq + 1)

    async def _is_atomic(self) -> bool:
        """A server that knows no batches would store each message for itself, and not tell which it refused."""
        if self._atomic is None:
            self._must_be_connected()
            subject = f"$JS.API.STREAM.INFO.{subjects.stream(self._service)}"
            config = _info((await self._client.request(subject, b"", timeout=TIMEOUT)).data).config
            self._atomic = config is not None and config.allow_atomic
        return self._atomic

    async def _send(self, room: str, payload: bytes, expected: int) -> int:
        self._must_be_connected()
        subject = subjects.events(self._service, room)
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        self._alone += 1
        try:
            answer = await self._client.request(subject, payload, timeout=TIMEOUT, headers=headers)
            ack = _ack(answer.data)
        except (nats.errors.Error, OSError, msgspec.MsgspecError) as error:
            raise LogUnavailable(f"no answer on {subject}: {error!r}") from error
        finally:
            self._alone -= 1
            self._go_on()
        if ack.error is None and ack.seq > 0:
            return ack.seq
        if ack.error is None:
            raise LogUnavailable("an acknowledgement without a sequence")
        if ack.error.err_code in _CONFLICTS:
            raise Conflict(room)
        if ack.error.err_code in _FULL:
            raise LogFull(ack.error.description)
        raise LogUnavailable(f"{ack.error.description} ({ack.error.err_code})")

    def _must_be_connected(self) -> None:
        """nats-py would keep what is sent now, and send it when nobody waits for it any more."""
        if not self._client.is_connected:
            raise LogUnavailable("no connection")


def _settle(one: _Append, seq: int | None) -> None:
    if not one.stored.done():
        one.stored.set_result(seq)
