"""Shell layer: JSON logs with the ids of what they speak of, and Prometheus metrics. Knows no service.

A log line is one JSON object: `time`, `level`, `service`, `instance`, `event`, then its fields, and the connection, room and
request in whose course it was written. Nothing secret is ever passed in: tokens, tickets and query strings stay out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

CONTEXT: Final[ContextVar[dict[str, str]]] = ContextVar("roundtable_log_context", default={})  # noqa: B039 - never changed

FAST: Final = (0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: buckets for what should take milliseconds."""

_LEVELS: Final = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}


class Log:
    """The process's one logger. `configure` at start; before that it writes warnings and worse to standard error."""

    def __init__(self) -> None:
        self._threshold = _LEVELS["WARNING"]
        self._fixed: dict[str, str] = {}
        self._out: TextIO | None = None

    def configure(self, service: str, instance: str, level: str, out: TextIO | None = None) -> None:
        self._threshold = _LEVELS[level]
        self._fixed = {"service": service, "instance": instance}
        self._out = out
        logging.basicConfig(handlers=[_Bridge()], level=max(self._threshold, logging.WARNING), force=True)

    def debug(self, event: str, **fields: Any) -> None:
        self._write("DEBUG", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write("INFO", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write("WARNING", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write("ERROR", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """With the traceback of the exception that is being handled."""
        self._write("ERROR", event, {**fields, "traceback": traceback.format_exc(limit=20)})

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if _LEVELS[level] < self._threshold:
            return
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": level, **self._fixed, "event": event, **CONTEXT.get(), **fields}
        out = self._out or sys.stderr
        with contextlib.suppress(OSError, ValueError):  # nobody reads our log: no reason to stop serving
            out.write(_line(line) + "\n")
            out.flush()


def _line(fields: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(fields, enc_hook=repr).decode()
    except Exception:  # noqa: BLE001 - a line that says it less well is better than none
        return json.dumps({str(name): repr(value) for name, value in fields.items()})


class _Bridge(logging.Handler):
    """What libraries log, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - its arguments do not fit its text
            message = str(record.msg)
        fields: dict[str, Any] = {"message": message, "logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = repr(record.exc_info[1])
        level = "ERROR" if record.levelno >= 40 else "WARNING" if record.levelno >= 30 else "INFO"
        log._write(level, "library", fields)


log: Final = Log()


class ProcessMetrics:
    """The metrics that every process has, besides those of the operating system and of Python."""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        self.nats_connected = Gauge(
            "roundtable_nats_connected", "1 while there is a connection to NATS", registry=registry
        )
        self.nats_reconnects = Counter(
            "roundtable_nats_reconnects", "Times that the connection to NATS came back", registry=registry
        )
        self.nats_certificate = Gauge(
            "roundtable_nats_certificate_expires_timestamp_seconds",
            "When the certificate ends that NATS showed us (Unix time); 0 without TLS",
            registry=registry,
        )
        self.loop_delay = Histogram(
            "roundtable_loop_delay_seconds",
            "How late the event loop wakes who has waited: what every answer of this process waits at least",
            buckets=FAST,
            registry=registry,
        )
        info = Gauge(
            "roundtable_service_info", "The service's version", ("service", "version"), registry=registry
        )
        from . import VERSION

        info.labels(service, VERSION).set(1)


class ServiceMetrics:
    """The metrics that every service behind the gateway has; no label ever names a room or a user."""

    OF = "services"

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"roundtable_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = FAST) -> Histogram:
            return Histogram(f"roundtable_{name}", text, labels, buckets=buckets, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"roundtable_{name}", text, registry=registry)

        self.registry: Final = registry
        self.commands = counter("commands", "Commands and queries by method and outcome", "method", "outcome")
        self.command_seconds = histogram("command_seconds", "From taking a command to its answer", "method")
        self.waiting = gauge("commands_waiting", "Commands that were taken and wait for their room's writer")
        self.append_seconds = histogram("log_append_seconds", "From an append to its acknowledgement")
        self.batch_events = histogram(
            "batch_events", "Events in one stored message", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
        )
        self.conflicts = counter(
            "log_conflicts", "Appends that the log refused because somebody else had written"
        )
        self.unavailable = counter("log_unavailable", "Times that the log did not answer")
        self.full = counter("log_full", "Appends that the log refused because it had no room for them")
        self.repeats = counter(
            "command_repeats", "Commands that had taken effect before and got their first answer"
        )
        self.snapshots = counter(
            "snapshots", "Snapshots by outcome: `written`, or `failed` and tried again later", "outcome"
        )
        for outcome in ("written", "failed"):
            self.snapshots.labels(outcome)
        self.snapshot_age = gauge(
            "snapshot_age_seconds", "Age of the oldest event in memory that no snapshot holds yet"
        )
        self.load_seconds = histogram("room_load_seconds", "Loading a room from snapshot and tail")
        self.replayed = counter(
            "replayed_messages", "Messages after a snapshot that loading a room read again"
        )
        self.rooms = gauge("rooms_loaded", "Rooms in memory")
        self.partitions = gauge("partitions_owned", "Partitions that this replica owns")
        self.replicas = gauge("replicas_seen", "Live replicas of this service, this one included")
