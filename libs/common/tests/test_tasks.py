"""Background tasks come to an end, whatever they do about it."""

from __future__ import annotations

import asyncio

import anyio

from roundtable.common.tasks import end


async def test_a_task_that_swallows_cancellations_ends_all_the_same() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    async def failing() -> None:
        raise RuntimeError("nobody's concern")

    with anyio.fail_after(5):
        tasks = [asyncio.create_task(stubborn()), asyncio.create_task(failing())]
        await asyncio.sleep(0)
        await end(None, *tasks)
    assert [task.done() for task in tasks] == [True, True]
    assert swallowed == 3
    assert isinstance(tasks[1].exception(), RuntimeError)
