"""The first dashboard to look at: what people notice (RED), and what runs out (USE)."""

from __future__ import annotations

from .parts import Board, Group, Panel, Query, quantiles, rate, slowest

JOBS = 'job=~"gateway|canvas|presence|activity"'

PROMISES = Group(
    "What people notice",
    (
        Panel(
            "Connections",
            "short",
            (Query("sum(roundtable_gateway_connections)"),),
            "All transports, all states.",
            number=True,
        ),
        Panel(
            "Rooms",
            "short",
            (Query("sum(roundtable_gateway_rooms_live)"),),
            "Live rooms, counted at each gateway that has somebody in them.",
            number=True,
        ),
        Panel(
            "Failed, last hour",
            "percentunit",
            (Query("roundtable:request_failures:ratio_rate1h"),),
            "Requests that failed by our fault. The objective is 0.1 %.",
            limit=0.001,
            number=True,
        ),
        Panel(
            "Over 100 ms, last hour",
            "percentunit",
            (Query("roundtable:request_slow:ratio_rate1h"),),
            "Requests that took longer. The objective is 1 %.",
            limit=0.01,
            number=True,
        ),
        Panel(
            "Event delay, 99 %",
            "s",
            (Query("roundtable:event_delay_seconds:p99_rate5m"),),
            "From the log to all of a room.",
            limit=0.25,
            number=True,
        ),
        Panel(
            "Alerts",
            "short",
            (Query('count(ALERTS{alertstate="firing", alertname!="RoundtableWatchdog"}) or vector(0)'),),
            "Firing now; docs/runbook.md has a section for each.",
            limit=1,
            number=True,
        ),
    ),
)

RED = Group(
    "Rate, errors, duration",
    (
        Panel(
            "Messages from clients",
            "reqps",
            (rate("roundtable_gateway_requests_total", "method"),),
            "By method. Methods that there are not count as `unknown`.",
        ),
        Panel(
            "Errors",
            "reqps",
            (
                rate(
                    "roundtable_gateway_requests_total",
                    "outcome",
                    'outcome!="ok"',
                    rare="needs a request that is refused",
                ),
            ),
            "By reason. `internal`, `unavailable` and `overloaded` are ours; the others are the clients'.",
        ),
        Panel(
            "Duration of requests",
            "s",
            quantiles("roundtable_gateway_request_seconds", "method"),
            "From a request's arrival to its answer, its event told before that.",
            limit=0.1,
        ),
        Panel(
            "Duration of commands",
            "s",
            quantiles("roundtable_command_seconds", "job"),
            "The part of it in the service.",
        ),
        Panel(
            "Append to the log",
            "s",
            quantiles("roundtable_log_append_seconds", "job"),
            "The part of it in JetStream, the disk's sync included.",
            limit=0.1,
        ),
        Panel(
            "Event delay",
            "s",
            quantiles("roundtable_gateway_event_delay_seconds"),
            "From an event's storing to its being written to all of its room.",
            limit=0.25,
        ),
    ),
)

USE = Group(
    "Utilisation, saturation, errors",
    (
        Panel(
            "CPU",
            "percentunit",
            (Query(f"rate(process_cpu_seconds_total{{{JOBS}}}[$__rate_interval])", "{{job}} {{instance}}"),),
            "A process uses one core at the most.",
            limit=0.9,
        ),
        Panel(
            "Loop delay, 99 %",
            "s",
            (slowest("roundtable_loop_delay_seconds", "job, instance"),),
            "How late a process does what is due: the first sign that its core is full.",
            limit=0.1,
        ),
        Panel(
            "Memory",
            "bytes",
            (Query(f"process_resident_memory_bytes{{{JOBS}}}", "{{job}} {{instance}}"),),
            "A gateway needs about 13 KB for each connection.",
        ),
        Panel(
            "Open files",
            "percentunit",
            (Query(f"process_open_fds{{{JOBS}}} / process_max_fds", "{{job}} {{instance}}"),),
            "Of what the process may open. A connection is a file.",
            limit=0.8,
        ),
        Panel(
            "Commands waiting",
            "short",
            (Query("sum by (job) (roundtable_commands_waiting)", "{{job}}"),),
            "For their room's writer.",
            limit=1000,
        ),
        Panel(
            "JetStream's storage",
            "percentunit",
            (Query("roundtable:jetstream_storage:ratio", "used", "needs an account with a limit"),),
            "Of what the account may keep.",
            limit=0.8,
        ),
    ),
)

WHO = Group(
    "Who is there",
    (
        Panel(
            "Instances",
            "short",
            (Query(f"sum by (job) (up{{{JOBS}}})", "{{job}}"),),
            "That Prometheus reaches.",
        ),
        Panel(
            "Versions",
            "short",
            (Query("count by (service, version) (roundtable_service_info)", "{{service}} {{version}}"),),
            "More than one while a rollout lasts.",
        ),
        Panel(
            "Connections to NATS",
            "short",
            (Query("sum by (job) (roundtable_nats_connected)", "{{job}}"),),
            "As many as there are instances.",
        ),
    ),
)

BOARD = Board(
    "roundtable-overview",
    "Roundtable: overview",
    "Is all well? By rate, errors and duration of what clients ask, and by what runs out first.",
    (PROMISES, RED, USE, WHO),
)
