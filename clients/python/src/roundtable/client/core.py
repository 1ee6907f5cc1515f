"""Pure layer: the life of a client: when it connects, by which transport, what it does after each end (CL1–CL4).

Times (seconds of any clock that never goes back) and messages come in, effects go out. Knows no loop, clock, chance or network.

A *link* is one attempt to connect and, once welcomed, the connection; links are numbered. There is a current one, and beside it
perhaps a *rising* one, which tries to get back to a better transport while the current one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from roundtable.common.schema.session import Transport, Welcome

from .effects import Close, Effect, Emit, Open, Policy, Renew, Settle, State, Transmit, Waiting
from .errors import LOST, RequestTimeout, RoundtableError, Unreachable
from .messages import Answer, Event, Failure, Message, Place
from .requests import Requests
from .retries import Retries, Seen

OPENING: Final = 15.0
"""Seconds from the beginning of an attempt to its welcome."""
SILENCE: Final = 2.5
"""Heartbeat intervals without a word, after which a connection counts as lost."""
STEADY: Final = 5.0
"""Seconds that a connection must have held for the attempts to be counted from the start."""
HEARTBEAT: Final = "heartbeat-"


@dataclass
class _Link:
    number: int
    index: int
    """Of its transport."""
    deadline: float
    welcomed_at: float | None = None
    heard_at: float = 0.0
    silence: float = 0.0
    """Seconds without a word after which it counts as lost."""
    beat_at: float = 0.0
    beats: int = 0


class Core:
    def __init__(
        self,
        transports: Sequence[Transport],
        policy: Policy,
        random: Callable[[], float],
        cursor: str = "",
    ) -> None:
        self.state: State = "idle"
        self.cursor = cursor
        self.latency: float | None = None
        """Milliseconds there and back, as last measured."""
        self.welcome: Welcome | None = None
        self.requests: Final = Requests(random)
        self._transports = tuple(transports)
        self._policy = policy
        self._effects: list[Effect] = []
        self._number = 0
        self._index = 0
        self._retries = Retries(policy.attempts, policy.delay, random)
        self._renewals = 0
        self._next: float | None = None
        """When to open the next link."""
        self._link: _Link | None = None
        self._rising: _Link | None = None
        self._rise_at: float | None = None
        self._seen = Seen()
        self._start: str | None = None
        """The cursor of a welcome whose snapshots have not all come; a break before that must start afresh."""
        self._beats: dict[str, float] = {}
        self._end: RoundtableError | None = None

    # -- what can be read

    @property
    def transport(self) -> Transport | None:
        """Of the living connection."""
        return self._transports[self._link.index] if self._link and self.state == "connected" else None

    def next_at(self, now: float) -> float | None:
        """When to call `tick`; None: not until something happens."""
        times = [time for time in (self._next, self._rise_at) if time is not None]
        times.append(self.requests.next_at(now, connected=self.state == "connected"))
        for link in (self._link, self._rising):
            if link is None:
                continue
            if link.welcomed_at is None:
                times.append(link.deadline)
            else:
                times += [link.beat_at, link.heard_at + link.silence]
        nearest = min(times)
        return None if nearest == float("inf") else nearest

    def _take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # -- what the user does

    def connect(self, now: float) -> list[Effect]:
        if self.state in ("idle", "closed"):
            self._index = self._renewals = 0
            self._retries.begin()
            self.state, self._end = "connecting", None
            self._open(now)
        return self._take()

    def disconnect(self, now: float) -> list[Effect]:
        """Ends everything; what waits for an answer gets none."""
        self._stop(RoundtableError(1000, "bye", "The client was disconnected"), now)
        return self._take()

    def wake(self, now: float) -> list[Effect]:
        """Something says that the network is back: no more waiting."""
        if self._next is not None:
            self._next = now
        if self._rise_at is not None:
            self._rise_at = now
        return self.tick(now)

    def request(
        self, ident: str, method: str, params: Any, timeout: float | None, now: float
    ) -> list[Effect]:
        """Raises `RoundtableError` when no more can wait, or the client was closed."""
        if self._end is not None:
            raise RoundtableError(
                self._end.code, self._end.reason, f"The client is closed: {self._end.message}"
            )
        self.requests.add(ident, method, params, timeout, now)
        self._send_ready(now)
        return self._take()

    def send(self, message: dict[str, Any]) -> list[Effect] | None:
        """An event, which is worth something only now; None: there is no connection."""
        if self.state != "connected" or self._link is None:
            return None
        return [Transmit(self._link.number, [message])]

    def forget(self, ident: str) -> None:
        """Nobody waits for that answer any more."""
        self.requests.drop(ident)

    # -- what happens

    def tick(self, now: float) -> list[Effect]:
        for ident, error in self.requests.expired(now):
            self._settle(ident, error)
        if self._next is not None and now >= self._next:
            self._open(now)
        for link in (self._link, self._rising):
            if link is None:
                continue
            if link.welcomed_at is None:
                lost = "No welcome came in time" if now >= link.deadline else ""
            elif now >= link.heard_at + link.silence or (now >= link.beat_at and len(self._beats) > SILENCE):
                lost = "The connection went silent"
            else:
                lost = ""
            if lost:
                self._effects.append(Close(link.number))
                self._ended(link.number, RoundtableError(LOST, "", lost), now)
            elif link.welcomed_at is not None and now >= link.beat_at:
                self._beat(link, now)
        if self._rise_at is not None and now >= self._rise_at:
            self._rise(now, 0)
        self._send_ready(now)
        return self._take()

    def received(self, number: int, message: Message, now: float) -> list[Effect]:
        link = self._link
        if link is not None and link.number == number and self._says_life(link, message):
            link.heard_at = now
        match message:
            case Answer():
                self._answered(message, now)
            case Failure():
                self._refused(message, now)
            case Event() if self._rising is not None and number == self._rising.number:
                if isinstance(message.data, Welcome):
                    self._risen(message.data, now)
            case Event() if self._link is not None and number == self._link.number:
                self._told(self._link, message, now)
            case Place(cursor) if self._link is not None and number == self._link.number:
                if self._start is None:
                    self.cursor = cursor
            case _:
                pass
        self._send_ready(now)
        return self._take()

    def ended(self, number: int, error: RoundtableError, now: float) -> list[Effect]:
        """A link could not be opened, or has ended; `error` says why."""
        self._ended(number, error, now)
        return self._take()

    # -- links

    def _open(self, now: float) -> None:
        self._next = None
        self._retries.made += 1
        self._link = self._new_link(self._index, now)

    def _new_link(self, index: int, now: float) -> _Link:
        self._number += 1
        self._effects.append(Open(self._number, self._transports[index], self.cursor))
        return _Link(self._number, index, now + OPENING)

    def _welcomed(self, link: _Link, welcome: Welcome, now: float) -> None:
        before = self.welcome is not None and self._transports[link.index] == self.welcome.transport
        link.welcomed_at = link.heard_at = link.beat_at = now
        # Over WebSocket our own heartbeats are answered; else the server sends some by itself.
        told = welcome.heartbeat_interval / 1000
        link.silence = SILENCE * (self._policy.heartbeat if welcome.transport == "websocket" else told)
        self.state, self.welcome = "connected", welcome
        self._index = link.index
        self._renewals = 0
        self._start = None if welcome.recovered else welcome.cursor
        if not welcome.recovered:
            self.cursor = ""
        self.requests.pace.set(welcome.limits.messages_per_minute, now)
        self._rise_at = now + self._retries.probe() if link.index else None
        if not before:
            self._emit("transport", self._transports[link.index])
        self._emit("connected", welcome)

    def _ended(self, number: int, error: RoundtableError, now: float) -> None:
        if self._rising is not None and number == self._rising.number:
            index, self._rising = self._rising.index, None
            self._rise(now, index + 1)
        if self._link is None or number != self._link.number:
            return
        link, self._link = self._link, None
        if link.welcomed_at is not None:
            for ident in self.requests.in_flight() if error.advice == "mend" else ():
                self._settle(ident, error)  # one of them was it, and would be it again
            self.requests.broken(now)
            self._beats.clear()
            self._emit("disconnected", error)
            if now - link.welcomed_at >= STEADY:
                self._retries.begin()
        self._rise_at = None
        self._emit("error", error)
        if self._rising is not None and error.advice != "stop":
            self._link, self._rising = self._rising, None  # it is under way already
            self.state = "reconnecting"
            self._retries.begin(made=1)
        else:
            self._after(link, error, now)

    def _after(self, link: _Link, error: RoundtableError, now: float) -> None:
        welcomed = link.welcomed_at is not None
        advice = error.advice
        if not self._policy.reconnect or advice == "stop":
            self._stop(error, now)
        elif advice == "reconnect" and welcomed:
            self._pause(now, self._retries.jitter(), counted=False)
        elif advice == "token" and not self._policy.renewable:
            self._stop(error, now)
        elif advice == "token" and self._renewals == 0:
            self._renewals = 1
            self._pause(now, self._retries.jitter() if welcomed else 0.0, counted=False)
        elif advice == "wait":
            self._pause(now, error.retry_after or self._retries.long_wait(), counted=False)
        else:
            self._back_off(now, error)

    def _pause(self, now: float, delay: float, *, counted: bool = True) -> None:
        if not counted:
            self._retries.uncount()
        if self.state != "offline":
            self.state = "connecting" if self.welcome is None else "reconnecting"
        self._next = now + delay
        self._emit("reconnecting", Waiting(self._transports[self._index], self._retries.made + 1, delay))

    def _back_off(self, now: float, error: RoundtableError) -> None:
        """The next attempt by this transport, else by the next one, else a slow look at all of them (CL1)."""
        if self.state == "offline":
            if self._index + 1 < len(self._transports):
                self._index += 1
                self._open(now)
            else:
                self._look_later(now)
        elif (pause := self._retries.pause()) is not None:
            self._pause(now, pause)
        elif self._index + 1 < len(self._transports):
            self._index += 1
            self._retries.begin()
            self._pause(now, 0.0)
        elif not self._policy.chain:
            self._stop(error, now)
        else:
            self.state = "offline"
            self._emit("offline", Unreachable(f"No transport leads to the server: {error.message}"))
            self._look_later(now)

    def _look_later(self, now: float) -> None:
        self._index = 0
        self._retries.begin()
        self._next = now + self._retries.probe()

    def _stop(self, error: RoundtableError, now: float) -> None:
        if self.state == "closed":
            return
        was_connected = self.state == "connected" and self._link is not None
        for link in (self._link, self._rising):
            if link is not None:
                self._effects.append(Close(link.number))
        self._link = self._rising = None
        self._next = self._rise_at = None
        self.state, self._end = "closed", error
        for ident in self.requests.clear():
            self._effects.append(Settle(ident, error))
        if was_connected:
            self._emit("disconnected", error)
        self._emit("closed", error)

    # -- back up

    def _rise(self, now: float, index: int) -> None:
        """Tries a better transport than the current one, from that index on."""
        self._rise_at = None
        if self._link is None or self.state != "connected":
            return
        if index < self._link.index:
            self._rising = self._new_link(index, now)
        else:
            self._rise_at = now + self._retries.probe()

    def _risen(self, welcome: Welcome, now: float) -> None:
        """What the old connection has not told yet, the new one tells: it began at our cursor of then."""
        assert self._rising is not None
        if self._link is not None:
            self._effects.append(Close(self._link.number))
            self.requests.broken(now)
            self._beats.clear()
        self._link, self._rising = self._rising, None
        self._retries.begin()
        self._welcomed(self._link, welcome, now)

    # -- messages

    def _says_life(self, link: _Link, message: Message) -> bool:
        """By HTTP an answer comes another way, and says nothing of the one that events come."""
        return self._transports[link.index] == "websocket" or not isinstance(message, Answer | Failure)

    def _told(self, link: _Link, event: Event, now: float) -> None:
        if isinstance(event.data, Welcome):
            self._welcomed(link, event.data, now)
        elif event.id:
            if not self._seen.add(event.id):
                return
            self.cursor, self._start = event.id, None
        elif event.name == "activity.snapshot" and self._start is not None and not event.data.more:
            self.cursor, self._start = self._start, None  # the last one of the three
        elif event.name == "session.token_expiring" and self._policy.renewable:
            self._effects.append(Renew())
        self._effects.append(Emit(event))

    def _answered(self, answer: Answer, now: float) -> None:
        asked_at = self._beats.pop(answer.id, None)
        if asked_at is not None:
            self.latency = (now - asked_at) * 1000
            self._emit("heartbeat", answer.data)
            self._emit("latency", self.latency)
        elif self.requests.drop(answer.id):
            self._effects.append(Settle(answer.id, answer))

    def _refused(self, failure: Failure, now: float) -> None:
        if self._beats.pop(failure.id, None) is not None:
            return
        if not failure.id:
            self._emit("error", failure.error)
        elif self.requests.refused(failure.id, failure.error, now):
            self._effects.append(Settle(failure.id, failure.error))

    def _beat(self, link: _Link, now: float) -> None:
        link.beats += 1
        link.beat_at = now + self._policy.heartbeat
        ident = f"{HEARTBEAT}{link.number}-{link.beats}"
        self._beats[ident] = now
        message = {"type": "request", "id": ident, "method": "heartbeat", "params": {}}
        self._effects.append(Transmit(link.number, [message]))

    def _send_ready(self, now: float) -> None:
        if self.state == "connected" and self._link is not None:
            ready = [request.message for request in self.requests.take(now)]
            if ready:
                self._effects.append(Transmit(self._link.number, ready))

    def _settle(self, ident: str, error: RoundtableError | RequestTimeout) -> None:
        self.requests.drop(ident)
        self._effects.append(Settle(ident, error))

    def _emit(self, name: str, data: Any) -> None:
        self._effects.append(Emit(Event(name, data)))
