"""The gateway's metrics at a running table: what they count, and that clients cannot add to their number (OP1)."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from roundtable.common.schema.methods import METHODS
from roundtable.common.testing.forms import Players, http, refused, until
from roundtable.common.testing.players import stroke, token
from roundtable.common.testing.system import Program, System
from roundtable.common.testing.wire import Wire

pytestmark = pytest.mark.rule("OP1")

Gateway = Callable[..., Awaitable[Program]]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def samples(program: Program) -> Samples:
    async with http(program) as client:
        text = (await client.get("/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((f"roundtable_gateway_{name}", frozenset(labels.items())), 0.0)


async def test_hostile_names_of_methods_become_one_label(table: System, everyone: Players) -> None:
    ann = await everyone("ann")
    before = await samples(table.gateway)
    invented = [f"canvas.draw{number}" for number in range(5)] + [
        "",
        "a" * 64,
        '"} 1\nx{y="',
        "canvas.draw\0",
    ]
    for name in invented:
        await refused(ann.request(name))
    after = await samples(table.gateway)
    told = {dict(labels)["method"] for name, labels in after if name == "roundtable_gateway_requests_total"}
    assert told <= {*METHODS, "unknown"}
    one = {"method": "unknown", "outcome": "unknown_method"}
    grown = value(after, "requests_total", **one) - value(before, "requests_total", **one)
    # Names that are no names at all may be refused as what they are, before anybody looks for such a method.
    assert 6 <= grown <= len(invented)


async def test_what_goes_in_and_out_is_counted(table: System, player: Players, transport: str) -> None:
    ann, _ = await player("ann"), await player("bob")
    before = await samples(table.gateway)
    await ann.draw("one")
    await ann.event("canvas.draw")
    after = await samples(table.gateway)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    way_in = "websocket" if transport.startswith("websocket") else "rpc"
    assert grown("received_messages_total", transport=way_in) >= 1
    assert grown("received_bytes_total", transport=way_in) > 50
    kind = "own" if transport.startswith("poll") else "shared"
    assert grown("sent_messages_total", kind=kind) >= 1
    assert grown("sent_bytes_total", kind=kind) > 50
    assert grown("requests_total", method="canvas.draw", outcome="ok") == 1
    assert grown("request_seconds_count", method="canvas.draw", outcome="ok") == 1
    assert grown("event_delay_seconds_count") >= 1


@pytest.mark.transports("websocket-json", "sse", "poll-json")
async def test_a_return_is_counted_once_by_how_it_went(
    table: System, player: Players, transport: str
) -> None:
    ann = await player("ann")
    await ann.draw("one")
    cursor = (await ann.event("canvas.draw"))["id"]
    await ann.close()
    before = await samples(table.gateway)
    back = await player("ann", cursor=cursor)
    assert back.welcome["recovered"]
    await back.draw("two")
    await back.event("canvas.draw")
    epoch, _, rest = cursor.partition(".")
    foreign = await player("bob", cursor=f"{epoch[::-1]}.{rest}")
    assert not foreign.welcome["recovered"]
    after = await samples(table.gateway)
    for outcome in ("whole", "refused"):
        name = "recoveries_total"
        assert value(after, name, outcome=outcome) - value(before, name, outcome=outcome) == 1


async def test_refusals_by_http_are_counted_by_reason(table: System) -> None:
    labels = {"reason": "invalid_room", "where": "http"}
    before = value(await samples(table.gateway), "refusals_total", **labels)
    async with http(table.gateway) as client:
        answer = await client.get("/poll?room=no/room", headers={"Authorization": f"Bearer {token('ann')}"})
    assert answer.json()["error"]["reason"] == "invalid_room"
    assert value(await samples(table.gateway), "refusals_total", **labels) == before + 1


async def test_a_reader_that_does_not_read_shows_as_paused_with_what_waits_for_it(
    gateway: Gateway, everyone: Players
) -> None:
    program = await gateway(SLOW_BYTES="100000000")
    ann = await everyone("ann", at=program)
    async with Wire(program, narrow=True) as slow:
        await slow.upgrade(everyone.room, "slow")
        await slow.message("event", method="activity.snapshot")
        points = [{"x": 100_000.125 + n, "y": -200_000.375 - n} for n in range(1_500)]

        async def paused() -> bool:
            await ann.request("canvas.draw", {"operations": [stroke(secrets.token_hex(8), points=points)]})
            found = await samples(program)
            return (
                value(found, "connections", transport="websocket", state="paused") == 1
                and value(found, "connections", transport="websocket", state="live") == 1
                and value(found, "waiting_bytes", transport="websocket") > 0
                and value(found, "waiting_bytes_most", transport="websocket")
                == value(found, "waiting_bytes", transport="websocket")
            )

        await until(paused)
