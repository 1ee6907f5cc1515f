"""Shell layer: the gateway's metrics. No label ever names a room, a user or an address.

What happens for each message is counted by a `Tally`; what is true just now is not counted at all, but looked at when
Prometheus asks (`measures`). Nothing here is done for each connection of a room.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from roundtable.common.schema.errors import REASONS, Refusal
from roundtable.common.schema.methods import METHODS
from roundtable.common.tally import Tallies, Tally
from roundtable.common.telemetry import FAST

UNKNOWN: Final = "unknown"
"""The label of every method that there is not: clients may invent as many as they like."""
_FAILURES: Final = frozenset({"internal", "unavailable", "overloaded"})
"""Reasons that are our fault and not the client's."""


class GatewayMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"roundtable_gateway_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"roundtable_gateway_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"roundtable_gateway_{name}", text, labels, buckets=FAST, registry=registry)

        def tallies(name: str, text: str, *labels: str) -> Tallies:
            return Tallies(f"roundtable_gateway_{name}", text, labels, registry)

        self.connections: Final = gauge(
            "connections",
            "Connections by transport and state: `joining`, `live`, `paused` (reads too slowly), `idle` (between two polls)",
            "transport",
            "state",
        )
        self.opened: Final = counter(
            "connections_opened", "Connections that were let in, by transport", "transport"
        )
        self.closed: Final = counter("connections_closed", "Connections that ended, by reason", "reason")
        self.waiting_bytes: Final = gauge(
            "waiting_bytes", "Bytes that wait for connections that read too slowly", "transport"
        )
        self.waiting_bytes_most: Final = gauge(
            "waiting_bytes_most", "The most that waits for one of them", "transport"
        )
        self.rooms: Final = gauge("rooms_live", "Rooms that this gateway listens to")
        self.requests: Final = counter(
            "requests",
            "Messages of clients by method and outcome: `ok`, or an error's reason",
            "method",
            "outcome",
        )
        self.request_seconds: Final = histogram(
            "request_seconds",
            "From a request's arrival to its answer; `refused`: the client's fault, `failed`: ours",
            "method",
            "outcome",
        )
        self.asking: Final = gauge("requests_waiting", "Requests that wait for a service's answer")
        self._received_messages: Final = tallies(
            "received_messages", "Messages from clients, by transport", "transport"
        )
        self._received_bytes: Final = tallies("received_bytes", "Their bytes", "transport")
        self.deliveries: Final = tallies("deliveries", "Joined writes to connections").labels()
        sent_messages = tallies(
            "sent_messages",
            "Messages to clients: `shared` by a room's connections, or a connection's `own`",
            "kind",
        )
        sent_bytes = tallies("sent_bytes", "Their bytes", "kind")
        self._shared_messages: Final = sent_messages.labels("shared")
        self._shared_bytes: Final = sent_bytes.labels("shared")
        self.own_messages: Final = sent_messages.labels("own")
        self.own_bytes: Final = sent_bytes.labels("own")
        self.fanout_seconds: Final = histogram("fanout_seconds", "One joined writing to a whole room")
        self.event_delay: Final = histogram(
            "event_delay_seconds",
            "From an event's storing in the log to its being written to all of its room",
        )
        ephemera = tallies(
            "ephemera_not_told",
            "Cursors and previews not told: `merged` into a later one, `skipped` for a paused reader, `dropped` before NATS",
            "how",
        )
        self.merged: Final = ephemera.labels("merged")
        self.skipped: Final = ephemera.labels("skipped")
        self.dropped: Final = ephemera.labels("dropped")
        self.slow: Final = counter(
            "slow_consumers", "Connections that were closed because they read too slowly"
        )
        self.gaps: Final = counter("gaps", "Times that an event was missing before the one that came (RS4)")
        self.filled: Final = counter(
            "filled_messages", "Messages that were fetched from the logs to fill gaps"
        )
        self.recoveries: Final = counter(
            "recoveries",
            "Connections that brought a cursor: `whole`, `refused` (the way back is not whole), `unreadable`",
            "outcome",
        )
        self.refusals: Final = counter(
            "refusals",
            "Errors told, by reason and where: in answer to a `message`, or to a request by `http`",
            "reason",
            "where",
        )
        self.lease_left: Final = gauge(
            "lease_left_seconds",
            "For how long this gateway's lease certainly holds; its people go offline after it",
        )
        self.leases_lost: Final = counter("leases_lost", "Times that this gateway had to take a lease anew")
        self._ages = gauge(
            "age_seconds", "Since something that is read from elsewhere was last known to be right", "what"
        )

        self._begin()

    def _begin(self) -> None:
        """Begins at 0 what would else begin with its first occurrence, which `rate` and `increase` do not see."""
        for outcome in ("whole", "refused", "unreadable"):
            self.recoveries.labels(outcome)
        for reason in ("peer", *REASONS):
            self.closed.labels(reason)
        for method in METHODS.values():
            if method.service != "gateway" and method.kind != "event" and not method.internal:
                for outcome in ("ok", "refused", "failed"):
                    self.request_seconds.labels(method.name, outcome)

    def age(self, what: str, seconds: Callable[[], float]) -> None:
        """`what`: keys, revocations."""
        self._ages.labels(what).set_function(seconds)

    def received_by(self, transport: str) -> tuple[Tally, Tally]:
        """Of messages and of their bytes."""
        return self._received_messages.labels(transport), self._received_bytes.labels(transport)

    def received(self, transport: str, messages: int, size: int) -> None:
        counted, bytes_ = self.received_by(transport)
        counted.value += messages
        bytes_.value += size

    def told(self, members: int, messages: int, written: int, seconds: float) -> None:
        """One joined writing of so many messages to each of a room's members."""
        self.deliveries.value += members
        self._shared_messages.value += members * messages
        self._shared_bytes.value += written
        self.fanout_seconds.observe(seconds)

    def stored_at(self, time_stamp: str) -> None:
        """An event has been told that the server stored then (RFC 3339)."""
        try:
            stored = datetime.fromisoformat(time_stamp).timestamp()
        except ValueError:
            return
        self.event_delay.observe(max(0.0, time.time() - stored))

    def answered(self, method: str, seconds: float, refusal: Refusal | None = None) -> None:
        """A service has answered, or has not."""
        outcome = "ok" if refusal is None else refusal.reason
        self.requests.labels(method, outcome).inc()
        kind = "ok" if refusal is None else "failed" if refusal.reason in _FAILURES else "refused"
        self.request_seconds.labels(method, kind).observe(seconds)

    def replied(self, method: str) -> None:
        """The gateway itself has answered."""
        self.requests.labels(method, "ok").inc()

    def refused(self, method: str, refusal: Refusal) -> None:
        """A message went no further than the gateway. `method` is what the client says it is."""
        self.requests.labels(method if method in METHODS else UNKNOWN, refusal.reason).inc()
        self.refusals.labels(refusal.reason, "message").inc()
