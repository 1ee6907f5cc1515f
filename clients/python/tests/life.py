"""A client's `Core` with a clock of its own and a server that says what the test says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from roundtable.client.core import Core
from roundtable.client.effects import Close, Effect, Emit, Open, Policy, Renew, Settle, Transmit
from roundtable.client.errors import LOST, RoundtableError
from roundtable.client.messages import Answer, Event, Failure
from roundtable.common.schema.activity import Snapshot
from roundtable.common.schema.session import Limits, Server, Transport, Welcome

CHAIN: tuple[Transport, ...] = ("websocket", "sse", "poll")


class Life:
    """`opens`, `sent`, `told`, `outcomes` hold all that it did, with times."""

    def __init__(
        self,
        *transports: Transport,
        chance: Callable[[], float] = lambda: 1.0,
        cursor: str = "",
        **policy: Any,
    ) -> None:
        transports = transports or CHAIN
        self.policy = Policy(**{"chain": len(transports) > 1, "heartbeat": 1e9, **policy})
        self.core = Core(transports, self.policy, chance, cursor)
        self.now = 0.0
        self.opens: list[tuple[float, Open]] = []
        self.closed: list[int] = []
        self.sent: list[tuple[float, int, dict[str, Any]]] = []
        self.told: list[Event] = []
        self.outcomes: dict[str, list[Any]] = {}
        self.renewals = 0
        self.server_heartbeat = 10**9
        self._ids = itertools.count(1)

    # -- what happens to it

    def do(self, effects: list[Effect] | None) -> None:
        for effect in effects or []:
            match effect:
                case Open():
                    self.opens.append((self.now, effect))
                case Close(link):
                    self.closed.append(link)
                case Transmit(link, messages):
                    self.sent += [(self.now, link, message) for message in messages]
                case Settle(ident, outcome):
                    self.outcomes.setdefault(ident, []).append(outcome)
                case Emit(event):
                    self.told.append(event)
                case Renew():
                    self.renewals += 1

    def connect(self) -> None:
        self.do(self.core.connect(self.now))

    def pass_time(self, seconds: float) -> None:
        """All that is due until then happens at its time."""
        end = self.now + seconds
        for _ in range(10_000):
            at = self.core.next_at(self.now)
            if at is None or at > end:
                self.now = end
                return
            self.now = max(self.now, at)
            self.do(self.core.tick(self.now))
        raise AssertionError("time stands still")

    def until_open(self) -> None:
        """Until the next attempt is made."""
        count = len(self.opens)
        for _ in range(100):
            at = self.core.next_at(self.now)
            if len(self.opens) > count or at is None:
                return
            self.now = max(self.now, at)
            self.do(self.core.tick(self.now))
        raise AssertionError("no attempt is made any more")

    def fail(
        self, code: int = LOST, reason: str = "", retry_after: float | None = None, link: int = 0
    ) -> None:
        self.do(self.core.ended(link or self.link, RoundtableError(code, reason, "", retry_after), self.now))

    def refuse(self, ident: str, code: int, reason: str, retry_after: float | None = None) -> None:
        failure = Failure(ident, "", RoundtableError(code, reason, "", retry_after))
        self.do(self.core.received(self.link, failure, self.now))

    def welcome(
        self, *, link: int = 0, recovered: bool = True, cursor: str = "c0", per_minute: int = 0
    ) -> None:
        number = link or self.link
        transport = next(each.transport for _, each in self.opens if each.link == number)
        said = Welcome(
            f"connection-{number}", "ann", "Ann", "player", "inn", transport, cursor, recovered, None, self.server_heartbeat,
            Limits(65_536, per_minute, 60), Server("roundtable", "0"),
        )  # fmt: skip
        self.do(self.core.received(number, Event("session.welcome", said, cursor), self.now))

    def up(self, **options: Any) -> None:
        """Connected, for long enough to count."""
        self.connect()
        self.welcome(**options)
        self.pass_time(10)

    def event(self, ident: str, link: int = 0, name: str = "canvas.draw", data: Any = None) -> None:
        self.do(self.core.received(link or self.link, Event(name, data, ident), self.now))

    def snapshots(self) -> None:
        for name in ("canvas", "presence", "activity"):
            self.event("", name=f"{name}.snapshot", data=Snapshot((), more=False))

    def request(self, ident: str, timeout: float | None = None, method: str = "canvas.draw") -> None:
        self.do(self.core.request(ident, method, {}, timeout, self.now))

    def answer(self, ident: str, data: Any = None, link: int = 0) -> None:
        self.do(self.core.received(link or self.link, Answer(ident, "canvas.draw", data), self.now))

    # -- what it has done

    @property
    def link(self) -> int:
        """The latest one."""
        return self.opens[-1][1].link

    def state(self) -> str:
        return self.core.state

    def transport(self) -> str | None:
        return self.core.transport

    def names(self) -> list[str]:
        return [event.name for event in self.told]

    def heard(self, name: str) -> list[Any]:
        return [event.data for event in self.told if event.name == name]

    def requests(self, link: int = 0) -> list[str]:
        return [m["id"] for _, at, m in self.sent if m["method"] != "heartbeat" and link in (0, at)]

    def reason_of(self, ident: str) -> str:
        (outcome,) = self.outcomes[ident]
        assert isinstance(outcome, RoundtableError)
        return outcome.reason
