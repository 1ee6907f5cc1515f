"""What a room costs while nobody is in it: nothing."""

from __future__ import annotations

import asyncio

import anyio
import nats
import nats.errors
from nats.aio.client import Client

from roundtable.common import subjects
from roundtable.common.testing.players import WebSocketPlayer
from roundtable.common.testing.system import system


async def is_heard(client: Client, subject: str) -> bool:
    """Whether anybody is subscribed to it: the server itself says when nobody is."""
    try:
        await client.request(subject, b"", timeout=0.3)
    except nats.errors.NoRespondersError:
        return False
    except TimeoutError:
        return True
    return True


async def test_a_gateway_listens_to_a_room_for_as_long_as_somebody_is_in_it() -> None:
    """Two people; when the last one has gone, both subscriptions of the room are given back."""
    async with system(settings={"ROOM_LINGER": "0.1"}) as running:
        client = await nats.connect(running.nats.url)
        heard = [subjects.ephemeral("den"), subjects.out("canvas", "den")]
        assert [await is_heard(client, subject) for subject in heard] == [False, False]
        async with WebSocketPlayer(running.gateway.ws, "ann", "den") as ann:
            async with WebSocketPlayer(running.gateway.ws, "bob", "den") as bob:
                await ann.draw("a")
                await bob.event("canvas.draw")
                assert [await is_heard(client, subject) for subject in heard] == [True, True]
            await ann.draw("b")
            assert [await is_heard(client, subject) for subject in heard] == [True, True]
        with anyio.fail_after(10):
            while any([await is_heard(client, subject) for subject in heard]):
                await asyncio.sleep(0.02)
        await client.close()
