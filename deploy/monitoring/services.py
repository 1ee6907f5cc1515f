"""Canvas, presence and activity: commands, batches, the log, rooms in memory; and what each has besides."""

from __future__ import annotations

from .parts import Board, Group, Panel, Query, quantiles, rate, slowest


def board(job: str, *own: Group) -> Board:
    where = f'job="{job}", instance=~"$instance"'

    def now(metric: str, by: str = "instance", how: str = "sum") -> Query:
        return Query(f"{how} by ({by}) (roundtable_{metric}{{{where}}})", f"{{{{{by}}}}}")

    def often(metric: str, by: str = "", rare: str = "", legend: str = "") -> Query:
        return rate(f"roundtable_{metric}", by, where, legend, rare)

    commands = Group(
        "Commands",
        (
            Panel(
                "By method and outcome",
                "reqps",
                (often("commands_total", "method, outcome"),),
                "Commands and queries. `given_up`: the log let it wait too long.",
            ),
            Panel(
                "Duration",
                "s",
                quantiles("roundtable_command_seconds", "method", where),
                "From taking a command to its answer.",
            ),
            Panel(
                "Waiting",
                "short",
                (now("commands_waiting"),),
                "For their room's writer. An autoscaler may go by it.",
                limit=1000,
            ),
            Panel(
                "Repeated",
                "reqps",
                (often("command_repeats_total"),),
                "That had taken effect before, and got their first answer.",
            ),
        ),
    )
    log = Group(
        "The log",
        (
            Panel(
                "Append",
                "s",
                quantiles("roundtable_log_append_seconds", where=where),
                "To the acknowledgement, the disk's sync included.",
                limit=0.1,
            ),
            Panel(
                "Events in one append",
                "short",
                (
                    Query(f"{often('batch_events_sum').expr} / {often('batch_events_count').expr}", "mean"),
                    quantiles("roundtable_batch_events", where=where)[1],
                ),
                "The busier a room, the more commands share one append.",
            ),
            Panel(
                "Trouble",
                "short",
                (
                    often("log_conflicts_total", legend="conflicts"),
                    often("log_unavailable_total", legend="no answer"),
                    often("log_full_total", legend="full"),
                ),
                "A second. Conflicts: two replicas write one room; harmless, but slow.",
            ),
        ),
    )
    rooms = Group(
        "Rooms and replicas",
        (
            Panel(
                "Partitions owned",
                "short",
                (now("partitions_owned"), Query(f'sum(roundtable_partitions_owned{{job="{job}"}})', "all")),
                "32 in all, always.",
            ),
            Panel("Replicas seen", "short", (now("replicas_seen"),), "By each replica. They should agree."),
            Panel("Rooms in memory", "short", (now("rooms_loaded"),), "Let go after five quiet minutes."),
            Panel(
                "Loading a room",
                "s",
                quantiles("roundtable_room_load_seconds", where=where),
                "From snapshot and tail.",
            ),
            Panel(
                "Replay",
                "short",
                (often("replayed_messages_total", legend="messages"),),
                "Messages after a snapshot that loading read again, a second.",
            ),
            Panel(
                "Snapshots",
                "short",
                (often("snapshots_total", "outcome"),),
                "Written, or failed and tried again, a second.",
            ),
            Panel(
                "Snapshot age",
                "s",
                (now("snapshot_age_seconds", how="max"),),
                "The oldest event in memory that no snapshot holds.",
                limit=3600,
            ),
            Panel(
                "CPU",
                "percentunit",
                (Query(f"rate(process_cpu_seconds_total{{{where}}}[$__rate_interval])", "{{instance}}"),),
                "Of its one core.",
                limit=0.9,
            ),
            Panel(
                "Loop delay, 99 %",
                "s",
                (slowest("roundtable_loop_delay_seconds", "instance", where),),
                "How late the service does what is due.",
                limit=0.1,
            ),
        ),
    )
    return Board(
        f"roundtable-{job}",
        f"Roundtable: {job}",
        f"The {job} service: commands, its log, its rooms.",
        (*own, commands, log, rooms),
        job,
    )


PRESENCE = Group(
    "Leases",
    (
        Panel(
            "Live gateways",
            "short",
            (Query("max(roundtable_presence_leases)", "leases"), Query('sum(up{job="gateway"})', "gateways")),
            "A lease is a gateway's word that its people are here.",
        ),
        Panel(
            "Gateways found dead",
            "short",
            (Query("sum(increase(roundtable_presence_dead_gateways_total[$__rate_interval]))", "dead"),),
            "With people left in rooms: these went offline.",
        ),
        Panel(
            "Sweep",
            "s",
            quantiles("roundtable_presence_sweep_seconds", window="5m"),
            "Looking through all occupied rooms; every 30 s at the least.",
        ),
    ),
)

ACTIVITY = Group(
    "The feed",
    (
        Panel(
            "Lag",
            "short",
            (Query("max by (log) (roundtable_follow_lag)", "{{log}}"),),
            "Messages of the other logs that are still to be read.",
            limit=1000,
        ),
        Panel(
            "Derived",
            "short",
            (rate("roundtable_follow_derived_total", "log"),),
            "Comings, goings and cleared maps posted to the feed, a second.",
        ),
        Panel(
            "Trouble",
            "short",
            (
                rate(
                    "roundtable_follow_skipped_total",
                    "log",
                    legend="{{log}} skipped",
                    rare="needs a message that cannot be read",
                ),
                rate(
                    "roundtable_follow_reopened_total",
                    "log",
                    legend="{{log}} interrupted",
                    rare="needs a break of NATS",
                ),
            ),
            "A second.",
        ),
    ),
)

BOARDS = (board("canvas"), board("presence", PRESENCE), board("activity", ACTIVITY))
