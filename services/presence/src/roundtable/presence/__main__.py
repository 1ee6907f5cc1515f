"""Starts the presence service: `python -m roundtable.presence`."""

from __future__ import annotations

from typing import Any

from roundtable.common.command_handler import CommandHandler
from roundtable.common.command_service import CommandService
from roundtable.common.domain_service import Stop, start_domain
from roundtable.common.leases import GatewayLeases
from roundtable.common.runtime import Process, main

from .config import PresenceSettings
from .reaper import Reaper, ReaperMetrics
from .service import PresenceDomain


async def reap(
    process: Process[PresenceSettings], handler: CommandHandler[Any, Any, Any], service: CommandService
) -> Stop:
    """Whoever's gateway has died goes offline, though it said nothing (PR2)."""
    reaper = Reaper(
        handler,
        GatewayLeases(process.client),
        lambda: service.membership.owned,
        ReaperMetrics(process.registry),
    )
    await reaper.start(process.client)
    return reaper.stop


async def start(process: Process[PresenceSettings]) -> Stop:
    return await start_domain(process, PresenceDomain(), reap)


if __name__ == "__main__":
    main("presence", PresenceSettings, start)
