"""Shell layer: a whole service around a domain: log, snapshots, handler, subjects, ops port. The same for all three."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .command_handler import CommandHandler
from .command_service import CommandService
from .config import Settings
from .decider import Domain
from .eventlog import LogUnavailable
from .eventlog_jetstream import JetStreamEventLog
from .log_watch import LogMetrics, LogWatch
from .runtime import Process
from .snapshots import JetStreamSnapshots
from .telemetry import ServiceMetrics

T = TypeVar("T", bound=Settings)

Stop = Callable[[], Awaitable[None]]
Extra = Callable[[Process[T], CommandHandler[Any, Any, Any], CommandService], Awaitable[Stop]]
"""What a service does besides answering commands; returns what ends it."""


async def start_domain(
    process: Process[T], domain: Domain[Any, Any, Any], extra: Extra[T] | None = None
) -> Stop:
    """Starts the service; when it returns, commands are being answered. The result finishes those taken, and ends it."""
    eventlog = JetStreamEventLog(process.client, domain.service)
    snapshots = JetStreamSnapshots(process.client, domain.service)
    metrics = ServiceMetrics(process.registry)
    handler = CommandHandler(domain, eventlog, snapshots, metrics)
    commands = CommandService(process.client, domain.service, process.settings.instance, handler, metrics)
    watch = LogWatch(process.client, domain.service, LogMetrics(process.registry))

    async def log_ready() -> str:
        try:
            await eventlog.first()
        except LogUnavailable as error:
            return str(error)
        return ""

    process.checks["log"] = log_ready
    process.measures.append(handler.measure)
    handler.start()
    watch.start()
    await commands.start()
    end_extra = await extra(process, handler, commands) if extra is not None else None
    await process.serve()

    async def stop() -> None:
        if end_extra is not None:
            await end_extra()
        await commands.stop()
        await watch.stop()

    return stop
