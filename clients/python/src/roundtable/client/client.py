"""Shell layer: the clients that users hold. Carries out what `core` decides, with the loop's clock, tasks and libraries."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import random
import secrets
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import httpx
from msgspec import Raw, Struct
from websockets.exceptions import WebSocketException

from roundtable.common.schema.envelope import Format
from roundtable.common.schema.session import Transport, Welcome

from .address import address_of
from .core import Core
from .effects import Close, Effect, Emit, Open, Policy, Renew, Settle, State, Transmit
from .errors import LOST, RoundtableError
from .handlers import OWN, Events, Handler, Handlers
from .messages import Answer, Event, Message, encode
from .transports import PIPES
from .transports.pipe import Outgoing, Pipe, Way

log: Final = logging.getLogger("roundtable.client")

TokenSource = Callable[[], str | Awaitable[str | None] | None]
MESSAGE_BYTES: Final = 65_536
"""Of one message, until the welcome says otherwise (LI1)."""
TICK: Final = 0.001


class _Client:
    """The face that all clients share. Use it on one event loop.

    `token`, or `get_token`, which is called before each connecting and when the token is about to end. `cursor`: where an
    earlier client was. Times are in seconds.
    """

    TRANSPORTS: ClassVar[tuple[Transport, ...]]
    CHAIN: ClassVar[bool] = False

    def __init__(
        self,
        url: str,
        *,
        room: str | None = None,
        token: str | None = None,
        get_token: TokenSource | None = None,
        protocol: Format = "json",
        cursor: str = "",
        reconnect: bool = True,
        max_reconnect_attempts: int = 5,
        reconnect_delay: float = 1.0,
        heartbeat_interval: float = 30.0,
        event_filter: Callable[[Event], bool] | None = None,
        proxy: bool = True,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`proxy`: take that of the environment. Raises ValueError for an address that is none, or options without sense."""
        if protocol not in ("json", "msgpack"):
            raise ValueError(f"protocol is 'json' or 'msgpack', not {protocol!r}")
        if max_reconnect_attempts < 1 or reconnect_delay < 0 or heartbeat_interval <= 0:
            raise ValueError(
                "max_reconnect_attempts is from 1, reconnect_delay from 0, heartbeat_interval over 0"
            )
        self._address = address_of(url, room)
        self._get_token = get_token if get_token is not None else lambda: token
        self._format: Format = protocol
        self._filter = event_filter
        self._proxy = proxy
        secure = self._address.http.startswith("https:")
        self._ssl = ssl_context if secure else None
        self._verify = (ssl_context or True) if secure else False
        policy = Policy(
            reconnect,
            max_reconnect_attempts,
            reconnect_delay,
            heartbeat_interval,
            chain=self.CHAIN,
            renewable=get_token is not None,
        )
        self._core = Core(self.TRANSPORTS, policy, random.random, cursor)
        self._handlers = Handlers()
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._effects: deque[Effect] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._links: dict[int, asyncio.Task[None]] = {}
        self._pipes: dict[int, Pipe] = {}
        self._http: httpx.AsyncClient | None = None
        self._opened: asyncio.Future[Welcome] | None = None
        self._background: set[asyncio.Task[None]] = set()

    # -- what can be read

    @property
    def state(self) -> State:
        return self._core.state

    @property
    def cursor(self) -> str:
        """The place up to which everything was told; empty until the first connection has told the room's state."""
        return self._core.cursor

    @property
    def latency(self) -> float | None:
        """Milliseconds there and back; None: not measured yet."""
        return self._core.latency

    @property
    def transport(self) -> Transport | None:
        return self._core.transport

    @property
    def connection_id(self) -> str | None:
        welcome = self._core.welcome
        return welcome.connection_id if welcome is not None and self.state == "connected" else None

    @property
    def welcome(self) -> Welcome | None:
        """What the latest connection was told of itself: user, role, room, limits."""
        return self._core.welcome

    # -- coming and going

    async def connect(self) -> Welcome:
        """Returns when the server has welcomed us.

        Raises `RoundtableError` when it will not have us, `Unreachable` when no transport leads to it for now; a
        `RealtimeClient` then goes on trying until it is disconnected.
        """
        if self.state == "connected" and self._core.welcome is not None:
            return self._core.welcome
        if self._opened is None or self._opened.done():
            self._opened = asyncio.get_running_loop().create_future()
        opened = self._opened
        self._do(self._core.connect(self._now()))
        return await asyncio.shield(opened)

    async def disconnect(self) -> None:
        """Ends the connection. Requests without an answer are rejected, iterators end."""
        self._do(self._core.disconnect(self._now()))
        for task in self._background:
            task.cancel()
        tasks = [*self._links.values(), *self._background]  # links say goodbye first
        if tasks:
            await asyncio.wait(tasks)
        if self._http is not None:
            http, self._http = self._http, None
            await http.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.disconnect()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    def wake(self) -> None:
        """The network may be back: tries at once what would else be tried later."""
        self._do(self._core.wake(self._now()))

    # -- speaking

    async def request(
        self, method: str, params: Mapping[str, Any] | Struct | None = None, timeout: float | None = None
    ) -> Any:
        """Asks, and returns the answer's data, as the type that `roundtable.common.schema.methods` names for it.

        Without a connection it waits for one. Raises `RoundtableError` with `code`, `reason`, `message`, `retry_after`;
        `RequestTimeout` after `timeout` seconds, or 30 on a living connection.
        """
        ident = secrets.token_urlsafe(12)
        return await self._ask(ident, method, {} if params is None else params, timeout)

    def send(self, message: Mapping[str, Any]) -> bool:
        """Sends any message, with a `timestamp`. A request waits for a connection if need be, and is repeated as any.

        An event, as `presence.cursor`, is worth something only now: false when there is no connection. Raises ValueError for
        what is no message, `RoundtableError` for one that is too big.
        """
        kind, method = message.get("type"), message.get("method")
        if kind not in ("request", "event") or not isinstance(method, str):
            raise ValueError("a client's message has a `type`, `request` or `event`, and a `method`")
        self._check_size(message)
        if kind == "request":
            ident = str(message.get("id") or secrets.token_urlsafe(12))
            params = Raw(encode(message.get("params", {}), self._format))
            self._do(self._core.request(ident, method, params, None, self._now()))
            return True
        effects = self._core.send(dict(message))
        self._do(effects or [])
        return effects is not None

    async def _ask(
        self, ident: str, method: str, params: Mapping[str, Any] | Struct, timeout: float | None
    ) -> Any:
        raw = Raw(encode(params, self._format))  # as it is now: it may be sent again later
        self._check_size({"type": "request", "id": ident, "method": method, "params": raw})
        answer = self._answers[ident] = asyncio.get_running_loop().create_future()
        try:
            self._do(self._core.request(ident, method, raw, timeout, self._now()))
            return await answer
        finally:
            self._answers.pop(ident, None)
            self._core.forget(ident)

    def _check_size(self, message: Mapping[str, Any]) -> None:
        welcome = self._core.welcome
        most = welcome.limits.message_bytes if welcome is not None else MESSAGE_BYTES
        size = len(self._encoded(message))
        if size > most:
            raise RoundtableError(1009, "too_big", f"The message has {size:,} bytes; {most:,} are allowed")

    def _encoded(self, message: Mapping[str, Any]) -> bytes:
        return encode({"timestamp": time.time_ns() // 1_000_000, **message}, self._format)

    # -- listening

    def on(self, event: str, handler: Handler) -> None:
        """`handler(data, event)` at each event of that name, which is a method's, the client's own, `message` or `*`."""
        self._handlers.on(event, handler)

    def off(self, event: str, handler: Handler) -> None:
        self._handlers.off(event, handler)

    def events(self, *names: str, limit: int = 10_000) -> Events:
        """An async iterator over all that the server tells from now on, or over events of these names.

        `limit`: so many may wait to be read; then it raises `Overflow`.
        """
        return self._handlers.events(names, limit)

    # -- carrying out

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _do(self, effects: list[Effect]) -> None:
        """In order, also when a handler asks for more meanwhile."""
        self._effects += effects
        if self._busy:
            return
        self._busy = True
        try:
            while self._effects:
                self._carry_out(self._effects.popleft())
        finally:
            self._busy = False
        self._set_timer()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Open():
                self._links[effect.link] = asyncio.create_task(self._live(effect), name=f"link {effect.link}")
            case Close(link):
                if link in self._links:
                    self._links[link].cancel()
            case Transmit(link, messages):
                pipe = self._pipes.get(link)
                for message in messages if pipe is not None else ():
                    assert pipe is not None
                    pipe.send(Outgoing(self._encoded(message), message.get("id", ""), message["method"]))
            case Settle(ident, outcome):
                answer = self._answers.pop(ident, None)
                if answer is not None and not answer.done():
                    if isinstance(outcome, Answer):
                        answer.set_result(outcome.data)
                    else:
                        answer.set_exception(outcome)
            case Emit(event):
                self._tell(event)
            case Renew():
                task = asyncio.create_task(self._renew(), name="renew")
                self._background.add(task)
                task.add_done_callback(self._background.discard)

    def _tell(self, event: Event) -> None:
        opened = self._opened
        if opened is not None and not opened.done():
            if event.name == "connected":
                opened.set_result(event.data)
            elif event.name in ("closed", "offline"):
                opened.set_exception(event.data)
                opened.exception()  # nobody may be waiting any more
        if event.name in OWN or self._filter is None or self._filter(event):
            self._handlers.tell(event)
        if event.name == "closed":
            self._handlers.end()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        at = self._core.next_at(now)
        if at is not None:
            self._timer = asyncio.get_running_loop().call_at(max(at, now + TICK), self._tick)

    def _tick(self) -> None:
        self._do(self._core.tick(self._now()))

    async def _live(self, effect: Open) -> None:
        """One link, from its token to its end."""
        link = effect.link
        try:
            token = await self._token()
            way = Way(self._address, token, effect.cursor, self._format, self._proxy, self._ssl, self._client)
            pipe = self._pipes[link] = PIPES[effect.transport](
                way, lambda message: self._heard(link, message)
            )
            await pipe.run()
            error = RoundtableError(LOST, "", "The connection ended")
        except RoundtableError as refusal:
            error = refusal
        except (OSError, httpx.HTTPError, httpx.StreamError, WebSocketException) as trouble:
            error = RoundtableError(LOST, "", str(trouble) or type(trouble).__name__)
        except Exception as trouble:
            log.exception("connecting failed")
            error = RoundtableError(LOST, "", f"{type(trouble).__name__}: {trouble}")
        finally:
            self._links.pop(link, None)
            self._pipes.pop(link, None)
        self._do(self._core.ended(link, error, self._now()))

    def _heard(self, link: int, message: Message) -> None:
        self._do(self._core.received(link, message, self._now()))

    async def _token(self) -> str:
        found = self._get_token()
        if inspect.isawaitable(found):
            found = await found
        return found or ""

    async def _renew(self) -> None:
        """A new token in the living connection (AU3). If that fails, the connection will end, and the next one gets one."""
        try:
            token = await self._token()
            for pipe in self._pipes.values():
                pipe.way.token = token
            with contextlib.suppress(RoundtableError):
                await self.request("auth.refresh", {"token": token})
        except Exception:
            log.exception("get_token failed")

    def _client(self) -> httpx.AsyncClient:
        """For all HTTP; made when it is needed, as reading certificates takes its time."""
        if self._http is None:
            self._http = httpx.AsyncClient(verify=self._verify, trust_env=self._proxy)
        return self._http


class WebSocketClient(_Client):
    """By WebSocket alone."""

    TRANSPORTS = ("websocket",)


class SSEClient(_Client):
    """By server-sent events, and `POST /rpc` for what it says."""

    TRANSPORTS = ("sse",)


class PollingClient(_Client):
    """By long poll, and `POST /rpc` for what it says."""

    TRANSPORTS = ("poll",)


class RealtimeClient(_Client):
    """By the best transport that gets through: WebSocket, else SSE, else long poll, on one cursor, and back up when it can.

    When none does, it tells `offline` and keeps looking.
    """

    TRANSPORTS = ("websocket", "sse", "poll")
    CHAIN = True
