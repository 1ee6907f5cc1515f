"""Shell layer: asks JetStream now and then how a service's log and the whole store are, for the metrics. Knows no room.

So no exporter beside the servers is needed: whoever has a log says what its clients must know of it. A log that does not
answer has no leader for us, whatever the reason.
"""

from __future__ import annotations

import asyncio
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.js.api import AccountInfo, StreamInfo
from prometheus_client import CollectorRegistry, Gauge

from . import subjects
from .schema.log import Service
from .tasks import end
from .telemetry import log

EVERY: Final = 10.0
ANSWER_TIMEOUT: Final = 2.0


class LogMetrics:
    OF = "services"

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"roundtable_{name}", text, labels, registry=registry)

        self.leader = gauge("log_leader", "1 if the log's leader answered when it was last asked")
        self.replicas = gauge(
            "log_replicas",
            "Copies of the log: those that are `wanted`, and those that are `current`, so could take over now",
            "state",
        )
        self.bytes = gauge("log_bytes", "Size of this service's log")
        self.messages = gauge("log_messages", "Messages in this service's log")
        self.storage = gauge("jetstream_storage_bytes", "What the whole account keeps on the servers' disks")
        self.storage_limit = gauge(
            "jetstream_storage_limit_bytes", "What it may keep there; 0 where the account has no limit"
        )
        for state in ("wanted", "current"):
            self.replicas.labels(state)

    def note_log(self, info: StreamInfo) -> None:
        peers = (info.cluster.replicas if info.cluster else None) or []
        led = info.cluster is None or bool(info.cluster.leader)
        self.leader.set(led)
        self.replicas.labels("wanted").set(info.config.num_replicas or 1)
        self.replicas.labels("current").set(led + sum(bool(p.current and not p.offline) for p in peers))
        self.bytes.set(info.state.bytes)
        self.messages.set(info.state.messages)

    def note_store(self, info: AccountInfo) -> None:
        parts = list(info.tiers.values()) if info.tiers else [info]
        self.storage.set(sum(part.storage for part in parts))
        limits = [part.limits.max_storage for part in parts]
        self.storage_limit.set(sum(limits) if min(limits) > 0 else 0)


class LogWatch:
    def __init__(
        self, client: Client, service: Service, metrics: LogMetrics, *, every: float = EVERY
    ) -> None:
        self._jetstream = client.jetstream(timeout=ANSWER_TIMEOUT)
        self._stream = subjects.stream(service)
        self._metrics = metrics
        self._every = every
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch(), name="log-watch")

    async def stop(self) -> None:
        await end(self._watching)

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._every)

    async def look(self) -> None:
        """What cannot be known leaves no leader, and all else as it was."""
        try:
            self._metrics.note_log(await self._jetstream.stream_info(self._stream))
        except (nats.errors.Error, TimeoutError, OSError) as error:
            self._metrics.leader.set(0)
            log.warning("log_watch.no_log", stream=self._stream, error=repr(error))
        try:
            self._metrics.note_store(await self._jetstream.account_info())
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.warning("log_watch.no_store", error=repr(error))
