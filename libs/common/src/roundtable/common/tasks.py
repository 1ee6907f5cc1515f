"""Shell layer: the end of background tasks. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
from typing import Any


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancels tasks until they have ended; their results and errors are nobody's concern any more.

    Once is not enough: before Python 3.12, `asyncio.wait_for`, and so each request of nats-py, swallows a cancellation that
    comes together with the answer.
    """
    running = {task for task in tasks if task is not None}
    while running := {task for task in running if not task.done()}:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.1)
