"""The gateway: connections, what goes in and out, who does not keep up, who is refused."""

from __future__ import annotations

from .parts import Board, Group, Panel, Query, quantiles, rate, slowest

G = "roundtable_gateway"
WHERE = 'instance=~"$instance"'


def now(metric: str, by: str = "instance", how: str = "sum") -> Query:
    label = " ".join(f"{{{{{name.strip()}}}}}" for name in by.split(","))
    return Query(f"{how} by ({by}) ({G}_{metric}{{{WHERE}}})", label)


def often(metric: str, by: str = "", rare: str = "", legend: str = "") -> Query:
    return rate(f"{G}_{metric}", by, WHERE, legend, rare)


CONNECTIONS = Group(
    "Connections",
    (
        Panel(
            "By transport and state",
            "short",
            (now("connections", "transport, state"),),
            "`paused` ones read too slowly for the moment; `idle` ones are between two polls.",
        ),
        Panel(
            "By gateway",
            "short",
            (now("connections"),),
            "New gateways get their share only as old connections end.",
        ),
        Panel("Rooms", "short", (now("rooms_live"),), "Rooms with somebody in them at that gateway."),
        Panel(
            "Coming and going",
            "short",
            (
                often("connections_opened_total", "transport", legend="{{transport}} in"),
                often("connections_closed_total", "reason", legend="out: {{reason}}"),
            ),
            "A second. `peer`: the client went.",
        ),
        Panel(
            "Coming back",
            "short",
            (often("recoveries_total", "outcome"),),
            "Connections that brought a cursor. `refused`: the way back was not whole, so they got snapshots.",
        ),
        Panel(
            "Leases",
            "s",
            (
                now("lease_left_seconds", how="min"),
                Query(f"sum(increase({G}_leases_lost_total{{{WHERE}}}[$__rate_interval]))", "lost"),
            ),
            "For how long a gateway's people certainly count as here; 7 to 10 s when all is well.",
        ),
    ),
)

TRAFFIC = Group(
    "In and out",
    (
        Panel(
            "Messages",
            "short",
            (
                often("received_messages_total", "transport", legend="in: {{transport}}"),
                often("sent_messages_total", "kind", legend="out: {{kind}}"),
            ),
            "A second. A `shared` message counts once for each connection that it is written to.",
        ),
        Panel(
            "Bytes",
            "Bps",
            (
                often("received_bytes_total", "transport", legend="in: {{transport}}"),
                often("sent_bytes_total", "kind", legend="out: {{kind}}"),
            ),
            "Before compression and TLS in, as written out.",
        ),
        Panel(
            "Joined writes",
            "wps",
            (often("deliveries_total", "instance"),),
            "One for each connection, however many messages it holds.",
        ),
        Panel(
            "Fan-out",
            "s",
            quantiles(f"{G}_fanout_seconds", where=WHERE),
            "One joined writing to a whole room.",
        ),
        Panel(
            "Event delay",
            "s",
            quantiles(f"{G}_event_delay_seconds", where=WHERE),
            "From an event's storing to its being written to all of its room.",
            limit=0.25,
        ),
        Panel(
            "Cursors and previews not told",
            "short",
            (often("ephemera_not_told_total", "how"),),
            "`merged` saves work and loses nothing; `skipped` is for paused readers; `dropped`: NATS was away or behind.",
        ),
    ),
)

REQUESTS = Group(
    "Requests",
    (
        Panel(
            "By method and outcome",
            "reqps",
            (often("requests_total", "method, outcome"),),
            "Everything that clients say, but cursors and previews.",
        ),
        Panel(
            "Duration",
            "s",
            quantiles(f"{G}_request_seconds", "method", WHERE),
            "Until the answer, the event told before it.",
            limit=0.1,
        ),
        Panel("Waiting for services", "short", (now("requests_waiting"),), "Requests without an answer yet."),
    ),
)

TROUBLE = Group(
    "Slow, refused, missed",
    (
        Panel(
            "Waiting to be read",
            "bytes",
            (
                now("waiting_bytes", "transport"),
                Query(
                    f"max by (transport) ({G}_waiting_bytes_most{{{WHERE}}})",
                    "{{transport}} the most for one",
                ),
            ),
            "What paused readers have not taken. Past 1 MB one is sent away with its cursor.",
        ),
        Panel(
            "Slow consumers",
            "short",
            (often("slow_consumers_total"),),
            "Connections closed for it, a second.",
            limit=0.5,
        ),
        Panel(
            "Refusals",
            "short",
            (often("refusals_total", "reason, where", "needs somebody who is refused"),),
            "Errors told, a second. `rate_limited`: over the limit of messages.",
        ),
        Panel(
            "Gaps",
            "short",
            (often("gaps_total", legend="gaps"), often("filled_messages_total", legend="messages fetched")),
            "Events that were missing and fetched from the logs before anything later was told.",
        ),
        Panel(
            "Age of what is read from elsewhere",
            "s",
            (Query(f"max by (what) ({G}_age_seconds{{{WHERE}}})", "{{what}}"),),
            "`revocations`: sessions that were ended; `keys`: of the JWKS, where there is one.",
        ),
        Panel(
            "Loop delay, 99 %",
            "s",
            (slowest("roundtable_loop_delay_seconds", "instance", f'job="gateway", {WHERE}'),),
            "How late the gateway does what is due.",
            limit=0.1,
        ),
    ),
)

BOARD = Board(
    "roundtable-gateway",
    "Roundtable: gateway",
    "Connections, what goes in and out, and who does not keep up.",
    (CONNECTIONS, TRAFFIC, REQUESTS, TROUBLE),
    "gateway",
)
