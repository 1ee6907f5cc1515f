"""Shell layer: one request of a client to its service and back: the answer comes after its event has been told (RS7)."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
from msgspec import UNSET, Raw, structs

from roundtable.common.command_handler import now_ms
from roundtable.common.cursor import Position
from roundtable.common.schema.envelope import ErrorMessage, Response, to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, ReplyMessage, Service
from roundtable.common.schema.presence import PresenceData, PresenceList
from roundtable.common.telemetry import CONTEXT, log

from .hub import Hub
from .metrics import GatewayMetrics
from .relay import Relay
from .room import Room
from .session import Ask

REACH: Final = 2.0
"""Seconds that an answer waits for its event to come round; then it goes ahead of it."""

_presence_list = msgspec.json.Decoder(PresenceList).decode


def error_message(refusal: Refusal, ident: str = "", method: str = "") -> ErrorMessage:
    return ErrorMessage(refusal.body, now_ms(), ident or UNSET, method or UNSET)


class Commands:
    def __init__(self, relay: Relay, hub: Hub, metrics: GatewayMetrics) -> None:
        self._relay = relay
        self._hub = hub
        self._metrics = metrics
        self.asking = 0
        """Requests that have no answer yet."""

    async def ask(self, room: Room, ask: Ask) -> Response | ErrorMessage:
        """Never raises; what goes wrong is an error message."""
        began = time.perf_counter()
        method, command = ask.method, ask.command
        refused: Refusal | None = None
        self.asking += 1
        try:
            data = await self._answer(room, ask)
            message: Response | ErrorMessage = Response(command.id, method.name, data, now_ms())
        except Refusal as refusal:
            refused = refusal
            message = error_message(refusal, command.id, method.name)
        except Exception as error:  # noqa: BLE001 - one request must not end the connection
            CONTEXT.set({"room": room.name, "connection": command.connection, "request": command.id})
            log.exception("request.failed", method=method.name, error=repr(error))
            refused = Refusal("internal")
            message = error_message(refused, command.id, method.name)
        finally:
            self.asking -= 1
        self._metrics.answered(method.name, time.perf_counter() - began, refused)
        return message

    async def _answer(self, room: Room, ask: Ask) -> Raw:
        method = ask.method
        assert method.service != "gateway"
        command = structs.replace(ask.command, seen=str(room.vector)) if method.cursor else ask.command
        reply, position = await self._asked(method.service, room.name, command)
        try:
            async with asyncio.timeout(REACH):
                await room.reach(method.service, position)
        except TimeoutError:
            log.warning("relay.behind", room=room.name, log=method.service, position=str(position))
        data = _data(reply)
        if method.cursor:
            cursor = room.cursor_of(method.service, position, reply.seen).encode()
            return Raw(bytes(data)[:-1] + b',"cursor":"' + cursor + b'"}')
        if method.answer is PresenceList:
            people = _presence_list(data).presence
            return to_json(PresenceList(tuple(self.presence_now(room, each) for each in people)))
        return data

    async def call(self, service: Service, room: str, command: CommandMessage) -> tuple[Raw, Position]:
        """A service's answer and the place in its log at which it is true. Raises `Refusal`."""
        reply, position = await self._asked(service, room, command)
        return _data(reply), position

    async def _asked(
        self, service: Service, room: str, command: CommandMessage
    ) -> tuple[ReplyMessage, Position]:
        reply = await self._relay.commands.request(service, room, command)
        if reply.error is not UNSET:
            raise Refusal.of(reply.error)
        return reply, Position.parse(reply.position)

    def presence_now(self, room: Room, data: PresenceData) -> PresenceData:
        return room.overlay(data, lambda user: self._hub.last_seen(room.name, user))


def _data(reply: ReplyMessage) -> Raw:
    return Raw(b"{}") if reply.data is UNSET else reply.data
