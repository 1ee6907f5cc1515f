"""Test layer: people who stay at the table whatever breaks, and who keep account of all that they asked and were told.

A `Member` comes back with its cursor after each break, over another gateway and perhaps another transport, and repeats what
was not answered with the same id. It judges nothing but its own welcome; `judge` compares the accounts with the logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from roundtable.common.schema.basics import Role
from roundtable.common.testing.players import (
    Player,
    PollPlayer,
    Problem,
    SSEPlayer,
    WebSocketPlayer,
    stroke,
)

KINDS: Final = ("json", "msgpack", "deflate", "sse", "poll")
LASTING: Final = [
    "canvas.draw",
    "canvas.clear",
    "canvas.undo",
    "canvas.redo",
    "presence.update",
    "activity.post",
    "session.cursor",
]
PASSING: Final = ["canvas.preview", "presence.cursor", "heartbeat"]
AGAIN: Final = frozenset({"unavailable", "overloaded", "internal", "draining"})
"""Reasons after which a client repeats a request with its id."""
ANSWER_WITHIN: Final = 15.0
"""Seconds in which a living connection answers, if only with `unavailable`."""


def digest(data: Any, timestamp: int) -> bytes:
    """Eight bytes over an event's content, the same for both formats."""
    text = json.dumps([data, timestamp], sort_keys=True)
    return blake2b(text.encode(), digest_size=8).digest()


class Gateway(Protocol):
    """Where one is found."""

    @property
    def name(self) -> str: ...
    @property
    def http(self) -> str: ...
    @property
    def ws(self) -> str: ...


class Heard(NamedTuple):
    """A cursor-bearing event as it was told."""

    cursor: str
    method: str
    content: bytes


class Asked(NamedTuple):
    """A command that was answered. Times are monotonic seconds: first sent, answered."""

    room: str
    user: str
    ident: str
    method: str
    data: Any
    began: float
    ended: float
    sent: int
    """How many times."""

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class _Accounting(Player):
    """Hands on each event as it comes, and keeps only what `Player` itself needs."""

    hand_on: Callable[[Player, dict[str, Any]], None]

    async def arrived(self, message: dict[str, Any]) -> None:
        if message.get("type") == "event":
            self.hand_on(self, message)
            if message["method"] != "session.welcome":
                return
        await super().arrived(message)


class _WebSocket(_Accounting, WebSocketPlayer):
    pass


class _SSE(_Accounting, SSEPlayer):
    pass


class _Poll(_Accounting, PollPlayer):
    pass


class Member:
    """One person at one table. `stay`: seconds, from and to, after which they move to another transport and gateway.

    `gateways` are looked at anew each time: there may be others meanwhile.
    """

    READY: ClassVar[float] = 30.0
    """Seconds in which a place at some gateway is found again."""

    def __init__(
        self,
        gateways: Sequence[Gateway],
        user: str,
        room: str,
        *,
        role: Role = "player",
        kinds: Sequence[str] = ("json",),
        stay: tuple[float, float] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.user = user
        self.room = room
        self.role: Role = role
        self.start = ""
        """The cursor of the first welcome."""
        self.cursor = ""
        self.heard: list[Heard] = []
        self.asked: list[Asked] = []
        self.faults: list[str] = []
        """What no client may ever meet."""
        self.comings = 0
        self.ends: list[tuple[int, str]] = []
        """Close codes and reasons, of those that the server ended or the network."""
        self.failures: list[tuple[float, float, str]] = []
        """Times that a connection did not come about: when, after how many seconds, why."""
        self.absences: list[tuple[float, float]] = []
        """Times without a connection: until when, in monotonic seconds, and for how many."""
        self.player: Player | None = None
        self._gateways = gateways
        self._gateway: Gateway | None = None
        self._kinds = kinds
        self._stay = stay
        self._chance = chance or random.Random(user)
        self._present = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    # -- coming and going

    async def __aenter__(self) -> Member:
        self._running = asyncio.create_task(self._run(), name=self.user)
        async with asyncio.timeout(self.READY):
            await self._present.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        self._stopping.set()
        if self._running is not None:
            await self._running

    @property
    def present(self) -> bool:
        return self._present.is_set()

    @property
    def gateway(self) -> Gateway | None:
        return self._gateway

    @property
    def away(self) -> float:
        """The longest absence, in seconds."""
        return max((seconds for _, seconds in self.absences), default=0.0)

    async def _run(self) -> None:
        gone = time.monotonic()
        while not self._stopping.is_set():
            player = await self._come()
            if player is None:
                await self._pause(self._chance.uniform(0.02, 0.2))
                continue
            if self.comings:
                now = time.monotonic()
                self.absences.append((now, now - gone))
            self.comings += 1
            self.player = player
            self._present.set()
            stay = self._chance.uniform(*self._stay) if self._stay else None
            ended = await self._until_ended(player, stay)
            self._present.clear()
            self.player = None
            gone = time.monotonic()
            if ended:
                self.ends.append(player.closed.result())
                await self._part(player, abruptly=False)
                await self._pause(self._chance.uniform(0.0, 0.1))
            else:
                await self._part(player, abruptly=self._chance.random() < 0.5)

    async def _come(self) -> Player | None:
        known, last = list(self._gateways), self._gateway
        others = [each for each in known if last is None or each.name != last.name] or known
        self._gateway = self._chance.choice(others)
        player = self._made(self._chance.choice(self._kinds), self._gateway)
        self._current = player
        began = time.monotonic()
        try:
            await player.connect(self.cursor)
        except (Exception, asyncio.CancelledError) as error:
            why = f"{type(player).__name__} {self._gateway.name} {error!r}"
            self.failures.append((began, time.monotonic() - began, why))
            await self._part(player, abruptly=True)
            if isinstance(error, asyncio.CancelledError):
                raise
            return None
        return player

    def _made(self, kind: str, gateway: Gateway) -> Player:
        player: _Accounting
        if kind == "sse":
            player = _SSE(gateway.http, self.user, self.room, self.role)
        elif kind == "poll":
            player = _Poll(gateway.http, self.user, self.room, self.role, timeout=2)
        else:
            options = {"format": "msgpack"} if kind == "msgpack" else {"deflate": kind == "deflate"}
            player = _WebSocket(gateway.ws, self.user, self.room, self.role, **options)
        player.hand_on = self._told
        return player

    async def _until_ended(self, player: Player, stay: float | None) -> bool:
        """False when it was ourselves who had enough."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((player.closed, stopping), timeout=stay, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return player.closed.done()

    async def _part(self, player: Player, *, abruptly: bool) -> None:
        self._current = None
        with contextlib.suppress(Exception):
            if abruptly and isinstance(player, _WebSocket) and player.socket is not None:
                player.abort()
            async with asyncio.timeout(2):
                await player.close()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    # -- being told

    _current: Player | None = None

    def _told(self, player: Player, message: dict[str, Any]) -> None:
        if player is not self._current:
            return
        method, data, cursor = message["method"], message["data"], message.get("id")
        if method == "session.welcome":
            self._welcomed(data)
        elif cursor is None:
            if method not in PASSING and not method.endswith(".snapshot"):
                self.faults.append(f"{self.user}: {method} without a cursor")
        elif method not in LASTING:
            self.faults.append(f"{self.user}: {method} with a cursor")
        else:
            self.heard.append(Heard(cursor, method, digest(data, message["timestamp"])))
            self.cursor = cursor

    def _welcomed(self, data: Any) -> None:
        if not self.cursor:
            self.start = self.cursor = data["cursor"]
        elif not data["recovered"] or data["cursor"] != self.cursor:
            self.faults.append(f"{self.user}: came with {self.cursor}, was welcomed with {data}")

    # -- asking

    async def ask(self, method: str, params: Any, ident: str, patience: float = 60.0) -> Any:
        """The answer's data, after as many repeats as it takes. Raises `Problem` for what no repeat mends."""
        began, sent = time.monotonic(), 0
        async with asyncio.timeout(patience):
            while True:
                await self._present.wait()
                player = self.player
                if player is None:
                    await asyncio.sleep(0)
                    continue
                sent += 1
                try:
                    async with asyncio.timeout(ANSWER_WITHIN):
                        data = await player.request(method, params, ident=ident, wait=2 * ANSWER_WITHIN)
                except Problem as problem:
                    if problem.reason not in AGAIN:
                        raise
                    await asyncio.sleep(0.05)
                except Exception as error:  # noqa: BLE001 - whatever broke, the request is asked again
                    if isinstance(error, TimeoutError) and player is self.player:
                        self.faults.append(f"{self.user}: {ident} was not answered in {ANSWER_WITHIN} s")
                    await asyncio.sleep(0.02)
                else:
                    self.asked.append(
                        Asked(self.room, self.user, ident, method, data, began, time.monotonic(), sent)
                    )
                    return data

    async def draw(self, ident: str, strokes: int = 1) -> Any:
        operations = [stroke(ident if not number else f"{ident}+{number}") for number in range(strokes)]
        return await self.ask("canvas.draw", {"operations": operations}, ident)

    async def say(self, ident: str, **more: Any) -> Any:
        params = {"type": "chat_message", "data": {"text": ident}, **more}
        return await self.ask("activity.post", params, ident)
