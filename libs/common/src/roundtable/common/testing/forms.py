"""Test layer: the transports over which a behaviour is tested, in one list, and the players of one test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import httpx
import jwt

from .players import WAIT, Player, PollPlayer, Problem, SSEPlayer, WebSocketPlayer
from .system import SECRET, Program, System

TRANSPORTS: Final[dict[str, Callable[..., Player]]] = {
    "websocket-json": partial(WebSocketPlayer, format="json"),
    "websocket-msgpack": partial(WebSocketPlayer, format="msgpack"),
    "websocket-json-deflate": partial(WebSocketPlayer, format="json", deflate=True),
    "sse": partial(SSEPlayer, format="json"),
    "poll-json": partial(PollPlayer, format="json"),
    "poll-msgpack": partial(PollPlayer, format="msgpack"),
}
"""A behaviour runs over all of them, unless its test is marked with `transports`: names, or what stands before their hyphen."""


class Players:
    """The participants of one test: in one room and over one transport unless told otherwise, and gone at its end.

    Called, it gives a player who has come in and seen the room's snapshots; `new` gives one who is still outside.
    """

    def __init__(self, system: System, room: str, transport: str) -> None:
        self.system = system
        self.room = room
        self.transport = transport
        self._all: list[Player] = []

    def new(
        self,
        user: str = "",
        role: str = "player",
        *,
        room: str | None = None,
        at: int | Program = 0,
        transport: str = "",
        **options: Any,
    ) -> Player:
        """`at`: a gateway, or the number of one; `room=""` names none. `options` are the player's."""
        gateway = self.system.of("gateway")[at] if isinstance(at, int) else at
        room = self.room if room is None else room
        transport = transport or self.transport
        if not room and transport.startswith("websocket"):
            options.setdefault("query", "")
        made = TRANSPORTS[transport](gateway.ws, user, room, role, **options)
        self._all.append(made)
        return made

    async def __call__(
        self, user: str = "", role: str = "player", *, cursor: str = "", **options: Any
    ) -> Player:
        """Raises AssertionError, with the reason, when the player is not let in."""
        made = self.new(user, role, **options)
        await made.connect(cursor)
        if not made.welcome["recovered"]:
            await made.snapshots()
        return made

    async def turned_away(self, user: str = "", role: str = "player", **options: Any) -> tuple[int, str]:
        """Code and reason with which somebody is not let in; nobody may welcome them."""
        made = self.new(user, role, **options)
        await made.open(options.get("cursor", ""))
        end = await made.close_code()
        assert "session.welcome" not in made.told(), made.told()
        return end

    async def leave(self) -> None:
        """All that are still there."""
        async with asyncio.timeout(WAIT):
            await asyncio.gather(*(each.close() for each in self._all), return_exceptions=True)


class Refused(NamedTuple):
    code: int
    reason: str
    message: str
    retry_after: float | None

    @property
    def word(self) -> tuple[int, str]:
        return self.code, self.reason


async def refused(asked: Awaitable[Any]) -> Refused:
    """The error by which a request is answered. Raises AssertionError when it is granted."""
    try:
        granted = await asked
    except Problem as problem:
        return Refused(problem.code, problem.reason, problem.message, problem.retry_after)
    raise AssertionError(f"was granted: {granted}")


def http(program: Program) -> httpx.AsyncClient:
    """Requests to a program; without certificates, as reading them takes longer than all else."""
    return httpx.AsyncClient(base_url=program.http, timeout=2 * WAIT, trust_env=False, verify=False)


def signed(claims: Mapping[str, Any], key: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    """A token that says just this, also what no token should."""
    return jwt.encode(dict(claims), key, algorithm, header)


async def until(holds: Callable[[], Awaitable[object]], within: float = WAIT, every: float = 0.02) -> None:
    """Asks again and again until it holds, for what tells of itself to nobody. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not await holds():
            await asyncio.sleep(every)
