"""Shell layer: the gateway's metrics. No label ever names a room, a user or an address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from roundtable.common.telemetry import FAST


class GatewayMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"roundtable_gateway_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"roundtable_gateway_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"roundtable_gateway_{name}", text, buckets=FAST, registry=registry)

        self.connections: Final = gauge("connections", "Live connections by transport", "transport")
        self.opened: Final = counter(
            "connections_opened", "Connections that were welcomed, by transport", "transport"
        )
        self.closed: Final = counter("connections_closed", "Connections that ended, by reason", "reason")
        self.rooms: Final = gauge("rooms_live", "Rooms that this gateway listens to")
        self.requests: Final = counter("requests", "Requests by method and outcome", "method", "outcome")
        self.request_seconds: Final = histogram("request_seconds", "From a request's arrival to its answer")
        self.received: Final = counter("received_bytes", "Bytes of messages from clients")
        self.deliveries: Final = counter("deliveries", "Joined writes to connections")
        self.sent: Final = counter("sent_bytes", "Bytes of events written to connections")
        self.fanout_seconds: Final = histogram("fanout_seconds", "One joined writing to a whole room")
        self.merged: Final = counter(
            "writes_skipped", "Joined writes of cursors that paused readers did not get"
        )
        self.slow: Final = counter(
            "slow_consumers", "Connections that were closed because they read too slowly"
        )
        self.gaps: Final = counter("gaps", "Times that an event was missing before the one that came (RS4)")
        self.filled: Final = counter(
            "filled_messages", "Messages that were fetched from the logs to fill gaps"
        )
        self.recoveries: Final = counter(
            "recoveries", "Connections that brought a cursor, by outcome", "outcome"
        )
        self.limited: Final = counter("refusals", "Errors that clients were told, by reason", "reason")

        self._ages = gauge(
            "age_seconds", "Since something that is read from elsewhere was last known to be right", "what"
        )

    def age(self, what: str, seconds: Callable[[], float]) -> None:
        """`what`: keys, revocations."""
        self._ages.labels(what).set_function(seconds)

    def told(self, members: int, written: int, seconds: float) -> None:
        self.deliveries.inc(members)
        self.sent.inc(written)
        self.fanout_seconds.observe(seconds)
