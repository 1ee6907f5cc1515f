"""Shell layer: a service's side of NATS: takes commands from its subjects, hands them to the handler, sends the answers."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import Any, Final

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from . import subjects, tasks
from .command_handler import CommandHandler
from .membership import Membership
from .schema.basics import is_room
from .schema.errors import Refusal
from .schema.log import CommandMessage, ReplyMessage, Service
from .schema.methods import METHODS
from .sharding import partition_of
from .telemetry import CONTEXT, ServiceMetrics, log

PART_BYTES: Final = 512 * 1024
"""A longer answer goes in parts: `+` and four bytes that name it, before the last one `=`, the same and four of its length.
A short one is `.` and itself.
"""
STOP_PATIENCE: Final = 2.0
"""Seconds that the server has to let go of our subscriptions."""

_decode = msgspec.json.Decoder(CommandMessage).decode
_encode = msgspec.json.Encoder().encode


def parts_of(answer: bytes) -> list[bytes]:
    if len(answer) <= PART_BYTES:
        return [b"." + answer]
    name = secrets.token_bytes(4)
    cut = [answer[at : at + PART_BYTES] for at in range(0, len(answer), PART_BYTES)]
    last = b"=" + name + len(answer).to_bytes(4, "big") + cut[-1]
    return [b"+" + name + part for part in cut[:-1]] + [last]


class CommandService:
    def __init__(
        self,
        client: Client,
        service: Service,
        instance: str,
        handler: CommandHandler[Any, Any, Any],
        metrics: ServiceMetrics,
    ) -> None:
        self.service: Final[Service] = service
        self.membership = Membership(client, service, instance, self._repartition)
        self._client = client
        self._handler = handler
        self._metrics = metrics
        self._fixed: list[Subscription] = []
        self._partitions: dict[int, Subscription] = {}
        self._wanted: frozenset[int] = frozenset()
        self._moving: asyncio.Task[None] | None = None
        self._answers: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._answering: asyncio.Task[None] | None = None
        self._taken = 0
        self._running: dict[tuple[str, str, str, str], list[str]] = {}
        """Commands that have no answer yet, and the inboxes that wait for it."""

    async def start(self) -> None:
        subscribe, service = self._client.subscribe, self.service
        self._answering = asyncio.create_task(self._send_answers(), name="answers")
        self._fixed = [
            await subscribe(subjects.command_to_any(service, "*"), queue="replicas", cb=self._on_command),
            await subscribe(subjects.command_to_all(service, "*"), cb=self._on_command),
            await subscribe(subjects.ping(service), queue="replicas", cb=self._on_ping),
        ]
        await self.membership.start()

    async def stop(self) -> None:
        """Takes no more commands, then answers those that were taken. Takes seconds at the most, even without NATS."""
        await self.membership.stop()
        if self._moving is not None:
            await self._moving
        await self._leave(*self._fixed)
        await self._handler.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_PATIENCE):
                while self._taken:
                    await asyncio.sleep(0.01)
                if self._client.is_connected:
                    await self._answers.join()
                    await self._client.flush()
        await tasks.end(self._answering)

    async def _leave(self, *subscriptions: Subscription) -> None:
        """Ends subscriptions when all is handled that the server has sent on them."""
        if self._client.is_connected:
            drains = (subscription.drain() for subscription in subscriptions)  # type: ignore[no-untyped-call]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_PATIENCE):
                    await asyncio.gather(*drains, return_exceptions=True)
        for subscription in subscriptions:
            # One that was not drained would be taken up again by nats-py when it reconnects.
            self._client._remove_sub(subscription._id)

    async def _on_ping(self, message: Msg) -> None:
        await message.respond(self.membership.replica.encode())

    async def _on_command(self, message: Msg) -> None:
        """Called for each message in order of arrival; must not wait for the answer."""
        room = subjects.room_of(message.subject)
        began = time.perf_counter()
        try:
            command = _decode(message.data)
            refusal = self._misdirected(room, command)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            log.error("command.unreadable", room=room, error=str(error))
            refusal = Refusal("invalid_data", "The command cannot be read")
        if refusal is not None:
            self._answer(message.reply, ReplyMessage(error=refusal.body))
            return
        if subjects.is_to_all(message.subject) and not self.membership.helps(partition_of(room)):
            return
        key = (room, command.user, command.method, command.id)
        if key in self._running:  # asked again because we are slow: one answer will do for both
            self._running[key].append(message.reply)
            return
        inboxes = [message.reply]
        if command.id:
            self._running[key] = inboxes
        self._taken += 1
        answer = self._handler.submit(room, command)

        def done(future: asyncio.Future[ReplyMessage]) -> None:
            self._taken -= 1
            self._running.pop(key, None)
            if future.cancelled() or future.exception() is not None:
                self._metrics.commands.labels(command.method, "given_up").inc()
                return
            reply = future.result()
            outcome = "ok" if reply.error is msgspec.UNSET else reply.error.reason
            self._metrics.commands.labels(command.method, outcome).inc()
            self._metrics.command_seconds.labels(command.method).observe(time.perf_counter() - began)
            if outcome == "internal":
                CONTEXT.set({"room": room, "request": command.id, "connection": command.connection})
                log.error("command.failed", method=command.method)
            for inbox in inboxes:
                self._answer(inbox, reply)

        answer.add_done_callback(done)

    def _misdirected(self, room: str, command: CommandMessage) -> Refusal | None:
        if not is_room(room):
            return Refusal("invalid_room", f"No room is named `{room[:64]}`")
        method = METHODS.get(command.method)
        if method is None or method.service != self.service:
            return Refusal("unknown_method", f"No method `{command.method[:64]}`")
        return None

    def _answer(self, inbox: str, reply: ReplyMessage) -> None:
        if inbox:
            for part in parts_of(_encode(reply)):
                self._answers.put_nowait((inbox, part))

    async def _send_answers(self) -> None:
        while True:
            inbox, part = await self._answers.get()
            try:
                await self._client.publish(inbox, part)
            except (nats.errors.Error, OSError) as error:  # the gateway asks again
                log.warning("answer.lost", error=repr(error))
            finally:
                self._answers.task_done()

    def _repartition(self, owned: frozenset[int]) -> None:
        self._wanted = owned
        self._metrics.partitions.set(len(owned))
        self._metrics.replicas.set(self.membership.replicas)
        if self._moving is None or self._moving.done():
            self._moving = asyncio.create_task(self._move(), name="repartition")

    async def _move(self) -> None:
        """Makes the subscriptions what membership says; what changes meanwhile is done in the next round."""
        while self._partitions.keys() != self._wanted:
            try:
                for partition in self._wanted - self._partitions.keys():
                    subject = subjects.command_to_owner(self.service, partition, "*")
                    self._partitions[partition] = await self._client.subscribe(subject, cb=self._on_command)
            except nats.errors.Error as error:
                log.warning("repartition.failed", error=repr(error))
                await asyncio.sleep(0.2)
            unwanted = self._partitions.keys() - self._wanted
            await self._leave(*[self._partitions.pop(partition) for partition in unwanted])
        log.info("partitions.owned", partitions=len(self._partitions), replicas=self.membership.replicas)
