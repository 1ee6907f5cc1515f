"""Starts the presence service: `python -m roundtable.presence`."""

from __future__ import annotations

from roundtable.common.domain_service import Stop, start_domain
from roundtable.common.runtime import Process, main

from .config import PresenceSettings
from .service import PresenceDomain


async def start(process: Process[PresenceSettings]) -> Stop:
    return await start_domain(process, PresenceDomain())


if __name__ == "__main__":
    main("presence", PresenceSettings, start)
