"""Starts the activity service: `python -m roundtable.activity`."""

from __future__ import annotations

from roundtable.common.domain_service import Stop, start_domain
from roundtable.common.runtime import Process, main

from .config import ActivitySettings
from .service import ActivityDomain


async def start(process: Process[ActivitySettings]) -> Stop:
    return await start_domain(process, ActivityDomain())


if __name__ == "__main__":
    main("activity", ActivitySettings, start)
