"""Shell layer: looks at the gateway when Prometheus asks: what is true just now, and so was not counted as it happened."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .service import Gateway

STATES: Final = {
    "websocket": ("joining", "live", "paused"),
    "sse": ("joining", "live", "paused"),
    "poll": ("live", "idle"),
}


def measure(gateway: Gateway) -> None:
    """Takes time for each connection, so once a scrape is often enough: 4 ms for 20,000."""
    metrics = gateway.metrics
    found = Counter((each.session.transport, each.state) for each in gateway.hub.connections.values())
    found.update(("poll", "live" if poller.polls else "idle") for poller in gateway.polling.all())
    for transport, states in STATES.items():
        for state in states:
            metrics.connections.labels(transport, state).set(found[transport, state])  # type: ignore[index]
    waiting: dict[str, list[int]] = {"websocket": [], "sse": []}
    for connection in gateway.hub.connections.values():
        if connection.paused:
            waiting[connection.session.transport].append(connection.waiting)
    for transport, sizes in waiting.items():
        metrics.waiting_bytes.labels(transport).set(sum(sizes))
        metrics.waiting_bytes_most.labels(transport).set(max(sizes, default=0))
    metrics.asking.set(gateway.commands.asking)
    metrics.lease_left.set(gateway.lease.left)
