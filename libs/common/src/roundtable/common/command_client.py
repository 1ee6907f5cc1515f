"""Shell layer: the gateway's side of commands: to the partition's owner, then to any replica, then to all of them.

Safe to repeat because a command carries its id: a service that has stored it answers as it did the first time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from . import subjects
from .schema.errors import Refusal
from .schema.log import CommandMessage, ReplyMessage, Service
from .sharding import partition_of
from .telemetry import log

FIRST_TRY: Final = 0.25
"""Seconds that the owner has; a killed replica is noticed by its silence."""
LATER_TRY: Final = 0.5
"""Seconds that all replicas together have, once the owner has had its chance. To ask again costs a slow one nothing."""
PATIENCE: Final = 5.0
"""Seconds for all tries together, after which the client is told `unavailable` and may repeat."""

_decode = msgspec.json.Decoder(ReplyMessage).decode
_encode = msgspec.json.Encoder().encode


class NoReplica(Exception):
    """Nobody listens on that subject: known at once, from the server."""


class CommandClient:
    """All answers come to one inbox; its last token says to which request."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._parts: dict[str, dict[bytes, list[bytes]]] = {}
        self._number = 0

    async def start(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer, pending_bytes_limit=1 << 30)

    async def request(
        self, service: Service, room: str, command: CommandMessage, patience: float = PATIENCE
    ) -> ReplyMessage:
        """The service's answer, be it a refusal. Raises `Refusal("unavailable")` if none came in `patience` seconds."""
        payload = _encode(command)
        deadline = time.monotonic() + patience
        subject = subjects.command_to_owner(service, partition_of(room), room)
        wait, tries = FIRST_TRY, 0
        while (left := deadline - time.monotonic()) > 0:
            if not self._client.is_connected:
                await asyncio.sleep(
                    min(0.05, left)
                )  # else nats-py would keep what we send, and send it all later
                continue
            try:
                return _decode(await self._ask(subject, payload, min(wait, left)))
            except NoReplica:
                if subject != subjects.command_to_any(service, room):
                    subject = subjects.command_to_any(service, room)
                else:
                    await asyncio.sleep(min(0.05, left))
                    subject = subjects.command_to_owner(service, partition_of(room), room)
            except TimeoutError:
                subject = subjects.command_to_all(service, room)
                tries += 1
                wait = FIRST_TRY if tries < 2 else LATER_TRY
            except (nats.errors.Error, OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("answer.unusable", service=service, room=room, error=repr(error))
                await asyncio.sleep(min(0.1, left))
        raise Refusal(
            "unavailable", f"The {service} service did not answer in time; repeat the request with its id"
        )

    async def alive(self, service: Service, timeout: float = 1.0) -> bool:
        """Whether any replica of the service answers."""
        try:
            await self._client.request(subjects.ping(service), b"", timeout=timeout)
        except (TimeoutError, nats.errors.Error, OSError):
            return False
        return True

    async def _ask(self, subject: str, payload: bytes, timeout: float) -> bytes:
        self._number += 1
        token = f"{self._number:x}"
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        try:
            await self._client.publish(subject, payload, reply=f"{self._inbox}.{token}")
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            self._waiting.pop(token, None)
            self._parts.pop(token, None)

    async def _on_answer(self, message: Msg) -> None:
        token = subjects.room_of(message.subject)
        answer = self._waiting.get(token)
        if answer is None or answer.done():
            return
        if message.headers and message.headers.get("Status") == "503":
            answer.set_exception(NoReplica())
            return
        mark = message.data[:1]
        if mark == b".":
            answer.set_result(message.data[1:])
            return
        # Several replicas may answer the same request, each in parts of its own.
        name, last = message.data[1:5], mark == b"="
        parts = self._parts.setdefault(token, {}).setdefault(name, [])
        parts.append(message.data[9:] if last else message.data[5:])
        if last:
            whole = b"".join(self._parts[token].pop(name))
            if len(whole) == int.from_bytes(message.data[5:9], "big"):  # else a part was lost: we ask again
                answer.set_result(whole)
