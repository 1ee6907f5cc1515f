"""NATS and JetStream, as the services see them: the store, the three logs, their copies, the connections."""

from __future__ import annotations

from .parts import Board, Group, Panel, Query, quantiles, rate

STORE = Group(
    "The store",
    (
        Panel(
            "Used",
            "bytes",
            (
                Query("max(roundtable_jetstream_storage_bytes)", "used"),
                Query("max(roundtable_jetstream_storage_limit_bytes)", "limit"),
            ),
            "By the whole account, over all servers and copies. A limit of 0 is none.",
        ),
        Panel(
            "Used of the limit",
            "percentunit",
            (Query("roundtable:jetstream_storage:ratio", "used", "needs an account with a limit"),),
            "Full, it refuses strokes.",
            limit=0.8,
        ),
        Panel(
            "Growth",
            "Bps",
            (Query("max(deriv(roundtable_jetstream_storage_bytes[30m]))", "a second"),),
            "Over half an hour.",
        ),
        Panel(
            "Logs",
            "bytes",
            (Query("max by (job) (roundtable_log_bytes)", "{{job}}"),),
            "Each service's, one copy.",
        ),
        Panel(
            "Messages", "short", (Query("max by (job) (roundtable_log_messages)", "{{job}}"),), "In each log."
        ),
        Panel(
            "Full",
            "short",
            (Query("sum(increase(roundtable_log_full_total[$__rate_interval]))", "refused appends"),),
            "Appends that the store had no room for.",
        ),
    ),
)

QUORUM = Group(
    "Leaders and copies",
    (
        Panel(
            "Leader",
            "short",
            (Query("max by (job) (roundtable_log_leader)", "{{job}}"),),
            "1 while the log's leader answers. 0: nothing can be stored.",
        ),
        Panel(
            "Copies",
            "short",
            (Query("max by (job, state) (roundtable_log_replicas)", "{{job}} {{state}}"),),
            "`current` ones could take over now.",
        ),
        Panel(
            "Append",
            "s",
            quantiles("roundtable_log_append_seconds", "job"),
            "To the acknowledgement by a majority, synced to disk.",
            limit=0.1,
        ),
        Panel(
            "No answer",
            "short",
            (rate("roundtable_log_unavailable_total", "job"),),
            "Times a second that the log did not answer.",
        ),
        Panel(
            "Connected",
            "short",
            (Query("sum by (job) (roundtable_nats_connected)", "{{job}}"),),
            "Instances with a connection to NATS.",
        ),
        Panel(
            "Reconnects",
            "short",
            (
                Query(
                    "sum by (job) (increase(roundtable_nats_reconnects_total[$__rate_interval]))", "{{job}}"
                ),
            ),
            "A server that stops sends its clients to the others.",
        ),
        Panel(
            "Certificate",
            "s",
            (
                Query(
                    "min(roundtable_nats_certificate_expires_timestamp_seconds > 0) - time()",
                    "left",
                    "needs NATS with TLS",
                ),
            ),
            "Until the certificate of NATS ends.",
        ),
    ),
)

BOARD = Board(
    "roundtable-jetstream",
    "Roundtable: JetStream",
    "The store and its servers, as the services see them.",
    (STORE, QUORUM),
)
