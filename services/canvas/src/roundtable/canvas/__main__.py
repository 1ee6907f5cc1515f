"""Starts the canvas service: `python -m roundtable.canvas`."""

from __future__ import annotations

from roundtable.common.domain_service import Stop, start_domain
from roundtable.common.runtime import Process, main

from .config import CanvasSettings
from .decider import Limits
from .service import CanvasDomain


async def start(process: Process[CanvasSettings]) -> Stop:
    return await start_domain(process, CanvasDomain(Limits(visible=process.settings.max_operations)))


if __name__ == "__main__":
    main("canvas", CanvasSettings, start)
