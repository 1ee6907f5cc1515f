"""Shell layer: tells the presence service of this gateway's connections: opened, closed, alive. Holds the gateway's lease."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from roundtable.common.command_client import PATIENCE
from roundtable.common.cursor import Position
from roundtable.common.leases import GatewayLease
from roundtable.common.schema import presence
from roundtable.common.schema.envelope import to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage
from roundtable.common.schema.session import Transport
from roundtable.common.telemetry import log

from .commands import Commands
from .hub import Hub

TOUCH_EVERY: Final = 15.0
"""Seconds between reports of signs of life: `away` comes after five minutes, so this is often enough (PR3, PR5)."""


class PresenceLink:
    def __init__(self, commands: Commands, hub: Hub, lease: GatewayLease) -> None:
        self._commands = commands
        self._hub = hub
        self._lease = lease
        self._numbers = itertools.count(1)
        self._closing: dict[asyncio.Task[None], str] = {}
        """The connection of each."""
        self._touching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._touching = asyncio.create_task(self._touch(), name="touch")

    async def stop(self) -> None:
        """Waits a little for what is still to be said."""
        if self._touching is not None:
            self._touching.cancel()
        if self._closing:
            await asyncio.wait(tuple(self._closing), timeout=3)

    async def open(
        self, room: str, user: str, username: str, connection: str, transport: Transport
    ) -> Position:
        """The connection is there; returns the place in the presence log from which everybody knows it. Raises `Refusal`."""
        # The end of an earlier connection of that id must not come after its new beginning.
        earlier = [task for task, closing in self._closing.items() if closing == connection]
        if earlier:
            _, late = await asyncio.wait(earlier, timeout=PATIENCE)
            if late:
                raise Refusal("unavailable", "The presence service did not answer in time")
        params = presence.Open(connection, self._lease.id, transport)
        command = CommandMessage(
            "presence.open", to_json(params), user, username, "player", self._new_id(), connection
        )
        _, position = await self._commands.call("presence", room, command)
        return position

    def close(self, room: str, user: str, username: str, connection: str) -> None:
        """The connection is gone. Tells it until it was heard: a lost word would leave a ghost."""
        params = presence.Close(connection, self._lease.id)
        command = CommandMessage(
            "presence.close", to_json(params), user, username, "player", self._new_id(), connection
        )
        task = asyncio.create_task(self._tell(room, command), name="presence.close")
        self._closing[task] = connection
        task.add_done_callback(lambda done: self._closing.pop(done, None))

    def _new_id(self) -> str:
        """So that a copy that comes late, from a replica that stood still, opens nothing that was closed meanwhile."""
        return f"{self._lease.id}.{next(self._numbers)}"

    async def _tell(self, room: str, command: CommandMessage) -> None:
        while True:
            try:
                await self._commands.call("presence", room, command)
                return
            except Refusal as refusal:
                if refusal.reason not in ("unavailable", "overloaded", "internal"):
                    log.error("presence.refused", room=room, method=command.method, reason=refusal.reason)
                    return
            except Exception as error:  # noqa: BLE001 - whatever it was, the word must not be lost
                log.warning("presence.unheard", room=room, error=repr(error))
            await asyncio.sleep(0.5)

    async def reopen(self) -> None:
        """The lease was lost, and with it all our connections were told as gone: they are not."""
        for connection in tuple(self._hub.connections.values()):
            try:
                await connection.reopen_presence()
            except Refusal as refusal:
                log.warning("presence.reopen", reason=refusal.reason)

    async def _touch(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_EVERY)
            for room, seen in self._hub.take_seen().items():
                command = CommandMessage("presence.touch", to_json(presence.Touch(seen)), "", "", "player")
                try:
                    await self._commands.call("presence", room, command)
                except Exception as error:  # noqa: BLE001 - without this task all would be away soon
                    log.warning("presence.touch", room=room, error=repr(error))
