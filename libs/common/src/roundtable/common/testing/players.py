"""Test layer: a participant as tests see one, over any transport: connects, asks, tells, and keeps all that it was told.

A behaviour is tested once, against `Player`; the transports are its forms.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import httpx
import jwt
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .system import SECRET

WAIT: Final = 10.0
"""Seconds after which something that should come has not."""
_numbers = itertools.count(1)


def token(
    user: str,
    room: str = "*",
    role: str = "player",
    *,
    ttl: float = 3600,
    name: str | None = None,
    key: str = SECRET,
    **claims: Any,
) -> str:
    """A token of the test system's secret."""
    said = {
        "sub": user,
        "name": name or user.title(),
        "room": room,
        "role": role,
        "exp": time.time() + ttl,
        "iat": time.time(),
    }
    return jwt.encode({**said, **claims}, key, "HS256")


class Problem(Exception):
    """An error message that answered a request."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code: int = error["code"]
        self.reason: str = error["reason"]
        self.message: str = error["message"]
        self.retry_after: float | None = error.get("retryAfter")
        super().__init__(f"{self.code} {self.reason}: {self.message}")


class Player:
    """`messages` holds everything that came, in order; `cursor` the last one that was told."""

    def __init__(
        self, url: str, user: str = "", room: str = "lobby", role: str = "player", **options: Any
    ) -> None:
        self.url = url
        self.user = user
        self.room = room
        self.role = role
        self.options = options
        self.messages: list[dict[str, Any]] = []
        self.welcome: dict[str, Any] = {}
        self.shown: dict[str, list[Any]] = {}
        """The snapshots, once they were asked for."""
        self.cursor = ""
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._arrived = asyncio.Condition()
        self._read = 0

    # -- what a transport does

    async def open(self, cursor: str) -> None:
        raise NotImplementedError

    async def transmit(self, message: Any) -> None:
        """Sends one message, or a list of them."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    # -- what tests do

    @property
    def credentials(self) -> str:
        given: str | None = self.options.get("token")
        if given is not None:
            return given
        return token(self.user, self.room, self.role) if self.user else ""

    async def connect(self, cursor: str = "") -> dict[str, Any]:
        """Returns the welcome's data."""
        await self.open(cursor)
        message = await self.event("session.welcome")
        self.welcome = message["data"]
        return self.welcome

    async def snapshots(self) -> dict[str, list[Any]]:
        """The three snapshots that follow a fresh welcome, their pages joined."""
        found: dict[str, list[Any]] = {}
        for service, field in (
            ("canvas", "operations"),
            ("presence", "presence"),
            ("activity", "activities"),
        ):
            found[service] = []
            while True:
                data = (await self.event(f"{service}.snapshot"))["data"]
                found[service] += data[field]
                if not data["more"]:
                    break
        self.shown = found
        return found

    async def request(
        self, method: str, params: Any = None, *, ident: str | None = None, wait: float = WAIT
    ) -> Any:
        """The answer's data. Raises `Problem`."""
        ident = ident or f"{self.user}-{next(_numbers)}-{time.time_ns() % 10**9}"
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[ident] = future
        try:
            await self.transmit(
                {
                    "type": "request",
                    "id": ident,
                    "method": method,
                    "params": params or {},
                    "timestamp": time.time() * 1000,
                }
            )
            return await asyncio.wait_for(future, wait)
        finally:
            self._answers.pop(ident, None)
            if not future.cancel() and not future.cancelled():
                future.exception()  # the connection's end, which the transport has told of first

    async def tell(self, method: str, params: Any) -> None:
        await self.transmit({"type": "event", "method": method, "params": params})

    async def draw(self, *idents: str, ident: str | None = None, wait: float = WAIT) -> Any:
        return await self.request(
            "canvas.draw", {"operations": [stroke(each) for each in idents]}, ident=ident, wait=wait
        )

    async def event(
        self, method: str, matching: Callable[[Any], bool] = lambda _: True, wait: float = WAIT
    ) -> dict[str, Any]:
        """The next event of that name whose data matches; what comes before it is passed over (and stays in `messages`)."""

        passed: list[dict[str, Any]] = []

        def found() -> bool:
            while not passed and self._read < len(self.messages):
                message = self.messages[self._read]
                self._read += 1
                if (
                    message.get("type") == "event"
                    and message["method"] == method
                    and matching(message["data"])
                ):
                    passed.append(message)
            return bool(passed)

        try:
            async with asyncio.timeout(wait), self._arrived:
                await self._arrived.wait_for(lambda: found() or self.closed.done())
        except TimeoutError:
            raise AssertionError(
                f"{self.user}: no {method} within {wait:g} s; had {self.told()[-12:]}"
            ) from None
        if not passed:
            raise AssertionError(
                f"{self.user}: closed with {self.closed.result()} before {method}; had {self.told()[-12:]}"
            )
        return passed[0]

    async def wait_for(self, condition: Callable[[], bool], wait: float = WAIT) -> None:
        """Until what was told makes the condition true."""
        async with asyncio.timeout(wait), self._arrived:
            await self._arrived.wait_for(condition)

    async def close_code(self, wait: float = WAIT) -> tuple[int, str]:
        return await asyncio.wait_for(asyncio.shield(self.closed), wait)

    def told(self, prefix: str = "") -> list[str]:
        """The names of the events that came, those that begin so."""
        return [
            m["method"] for m in self.messages if m.get("type") == "event" and m["method"].startswith(prefix)
        ]

    def strokes(self) -> list[str]:
        """Ids of all strokes told as events, in order."""
        return [
            operation["id"]
            for message in self.messages
            if message.get("type") == "event" and message["method"] == "canvas.draw"
            for operation in message["data"]["operations"]
        ]

    def errors(self) -> list[dict[str, Any]]:
        return [message["error"] for message in self.messages if message.get("type") == "error"]

    async def __aenter__(self) -> Player:
        await self.connect(self.options.get("cursor", ""))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- what transports call

    async def arrived(self, message: dict[str, Any]) -> None:
        async with self._arrived:
            self.messages.append(message)
            if isinstance(message.get("id"), str) and message.get("type") == "event":
                self.cursor = message["id"]
            future = (
                self._answers.pop(message.get("id", ""), None)
                if message.get("type") in ("response", "error")
                else None
            )
            if future is not None and not future.done():
                if message["type"] == "error":
                    future.set_exception(Problem(message["error"]))
                else:
                    future.set_result(message["data"])
            self._arrived.notify_all()

    async def ended(self, code: int, reason: str) -> None:
        async with self._arrived:
            if not self.closed.done():
                self.closed.set_result((code, reason))
            for future in self._answers.values():
                if not future.done():
                    future.set_exception(ConnectionError(f"closed with {code} {reason}"))
            self._arrived.notify_all()


class WebSocketPlayer(Player):
    """`format`: json or msgpack; `deflate`; headers, subprotocols, and a connected `sock` by options."""

    def __init__(
        self, url: str, user: str = "", room: str = "lobby", role: str = "player", **options: Any
    ) -> None:
        super().__init__(url, user, room, role, **options)
        self.format: Literal["json", "msgpack"] = options.get("format", "json")
        self.socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self, cursor: str) -> None:
        query = self.options.get("query", f"room={self.room}") + (f"&cursor={cursor}" if cursor else "")
        headers = dict(self.options.get("headers", {}))
        if self.credentials:
            headers["Authorization"] = f"Bearer {self.credentials}"
        self.socket = await connect(
            f"{self.url}{self.options.get('path', '/ws')}?{query}",
            additional_headers=headers,
            subprotocols=self.options.get("subprotocols", [f"roundtable.v1.{self.format}"]),
            compression="deflate" if self.options.get("deflate") else None,
            max_size=None,
            ping_interval=None,
            open_timeout=WAIT,
            proxy=None,
            sock=self.options.get("sock"),
        )
        self._reader = asyncio.create_task(self._receive(self.socket))

    async def _receive(self, socket: ClientConnection) -> None:
        try:
            async for frame in socket:
                await self.arrived(
                    json.loads(frame) if isinstance(frame, str) else msgspec.msgpack.decode(frame)
                )
        except ConnectionClosed:
            pass
        finally:
            await self.ended(socket.close_code or 1006, socket.close_reason or "")

    async def transmit(self, message: Any) -> None:
        assert self.socket is not None
        data: str | bytes = json.dumps(message) if self.format == "json" else msgspec.msgpack.encode(message)
        await self.socket.send(data)

    async def close(self) -> None:
        if self.socket is not None:
            await self.socket.close()
        if self._reader is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    def abort(self) -> None:
        """The network breaks: no close frame."""
        assert self.socket is not None
        self.socket.transport.abort()


class HttpPlayer(Player):
    """What reading by SSE and by poll have in common: asking goes by `POST /rpc`. `format` is that of /rpc."""

    def __init__(
        self, url: str, user: str = "", room: str = "lobby", role: str = "player", **options: Any
    ) -> None:
        super().__init__(url.replace("ws://", "http://"), user, room, role, **options)
        self.format: Literal["json", "msgpack"] = options.get("format", "json")
        self.rpc_url = options.get("rpc", self.url)
        """Another gateway may take the requests."""
        # Without certificates: reading them takes longer than all else.
        self.http = httpx.AsyncClient(timeout=httpx.Timeout(WAIT, read=70), trust_env=False, verify=False)
        self._reader: asyncio.Task[None] | None = None

    @property
    def headers(self) -> dict[str, str]:
        headers = dict(self.options.get("headers", {}))
        if self.credentials:
            headers["Authorization"] = f"Bearer {self.credentials}"
        return headers

    def query(self, **more: str) -> dict[str, str]:
        return ({"room": self.room} if self.room else {}) | {
            name: value for name, value in more.items() if value
        }

    async def transmit(self, message: Any) -> None:
        packed = self.format == "msgpack"
        response = await self.http.post(
            f"{self.rpc_url}/rpc",
            params=self.query(connection=self.welcome.get("connectionId", "")),
            content=msgspec.msgpack.encode(message) if packed else json.dumps(message).encode(),
            headers=self.headers | {"Content-Type": f"application/{self.format}"},
        )
        answered = (
            msgspec.msgpack.decode(response.content) if packed and response.is_success else response.json()
        )
        answers = answered if isinstance(answered, list) else [answered]
        for answer in answers:
            if not response.is_success:
                answer = {**answer, "id": message.get("id", "") if isinstance(message, dict) else ""}  # noqa: PLW2901
            await self.arrived(answer)

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,))
        await self.http.aclose()

    async def refused(self, response: httpx.Response) -> None:
        await response.aread()
        error = response.json()
        await self.arrived(error)
        await self.ended(error["error"]["code"], error["error"]["reason"])


class SSEPlayer(HttpPlayer):
    async def open(self, cursor: str) -> None:
        self._reader = asyncio.create_task(self._receive(cursor))

    async def _receive(self, cursor: str) -> None:
        headers = self.headers | ({"Last-Event-ID": cursor} if cursor else {})
        code, reason = 1006, ""
        try:
            async with self.http.stream(
                "GET", f"{self.url}/sse", params=self.query(), headers=headers
            ) as response:
                if not response.is_success:
                    await self.refused(response)
                    return
                event: dict[str, str] = {}
                async for line in response.aiter_lines():
                    if line:
                        name, _, value = line.partition(": ")
                        event[name] = value
                    elif "data" in event:
                        data, kind = json.loads(event["data"]), event["event"]
                        if kind == "error":
                            code, reason = data["error"]["code"], data["error"]["reason"]
                            await self.arrived(data)
                        else:
                            assert data.get("id") == event.get("id")
                            assert data["type"] == kind
                            await self.arrived({**data, "type": "event", "method": kind})
                        event = {}
        except httpx.HTTPError:
            pass
        finally:
            await self.ended(code, reason)

    def abort(self) -> None:
        """The network breaks."""
        assert self._reader is not None
        self._reader.cancel()


class PollPlayer(HttpPlayer):
    """Polls for ever. `place` is the cursor of the last answer."""

    async def open(self, cursor: str) -> None:
        self.place = cursor
        self._reader = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        connection = ""
        try:
            while True:
                response = await self.http.get(
                    f"{self.url}/poll",
                    params=self.query(
                        connection=connection, cursor=self.place, timeout=str(self.options.get("timeout", ""))
                    ),
                    headers=self.headers | {"Accept": f"application/{self.format}"},
                )
                if not response.is_success:
                    await self.refused(response)
                    return
                answer = (
                    msgspec.msgpack.decode(response.content) if self.format == "msgpack" else response.json()
                )
                for event in answer["events"]:
                    if event["type"] == "session.welcome":
                        connection = event["data"]["connectionId"]
                        self.welcome = event["data"]
                    await self.arrived({**event, "type": "event", "method": event["type"]})
                self.place = answer["cursor"]
        except httpx.HTTPError:
            pass
        finally:
            await self.ended(1006, "")

    def abort(self) -> None:
        """The network breaks."""
        assert self._reader is not None
        self._reader.cancel()


def stroke(ident: str, **fields: Any) -> dict[str, Any]:
    """A small valid `DrawOperation`."""
    return {
        "type": "draw",
        "tool": "pen",
        "points": [{"x": 1, "y": 2}, {"x": 3.5, "y": -4}],
        "color": "#1e90ff",
        "size": 3,
        "id": ident,
        **fields,
    }
