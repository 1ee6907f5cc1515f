"""What is served besides the table: health, readiness, metrics, descriptions (OP1–OP3)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from roundtable.common.testing.forms import Players, http, refused, until
from roundtable.common.testing.players import WAIT, token
from roundtable.common.testing.system import SERVICES, Program, System, system


async def get(program: Program, path: str) -> tuple[int, Any]:
    async with http(program) as client:
        answer = await client.get(path)
    return answer.status_code, answer.json()


@pytest.mark.rule("OP1")
@pytest.mark.parametrize("service", ["gateway", *SERVICES])
async def test_every_service_tells_that_it_lives_that_it_works_and_how(table: System, service: str) -> None:
    program = table.of(service)[0]
    assert (await get(program, "/healthz"))[0] == 200
    assert (await get(program, "/readyz"))[0] == 200
    async with http(program) as client:
        metrics = await client.get("/metrics")
    assert metrics.status_code == 200
    assert metrics.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(metrics.text))
    assert families
    assert any(family.name.startswith("roundtable_") for family in families)


@pytest.mark.rule("OP1")
async def test_metrics_of_a_gateway_count_its_connections_by_transport(
    table: System, everyone: Players
) -> None:
    async def connections() -> dict[str, float]:
        async with http(table.gateway) as client:
            text = (await client.get("/metrics")).text
        return {
            sample.labels["transport"]: sample.value
            for family in text_string_to_metric_families(text)
            if family.name.endswith("_connections") and family.type == "gauge"
            for sample in family.samples
            if sample.labels.get("state") == "live"
        }

    for transport in ("websocket-json", "sse", "poll-json"):
        await everyone("ann", transport=transport)

    async def live() -> bool:
        counted = await connections()
        return all(counted[transport] for transport in ("websocket", "sse", "poll"))

    await until(live)


@pytest.mark.rule("OP2")
async def test_the_gateway_describes_what_it_says_and_hears(table: System) -> None:
    status, document = await get(table.gateway, "/asyncapi.json")
    assert status == 200
    assert document["asyncapi"].startswith("3.")
    text = str(document)
    for method in (
        "canvas.draw",
        "presence.cursor",
        "activity.post",
        "session.welcome",
        "auth.refresh",
        "heartbeat",
    ):
        assert method in text


@pytest.mark.rule("OP3")
async def test_the_gateway_describes_its_http_interface(table: System) -> None:
    status, document = await get(table.gateway, "/openapi.json")
    assert status == 200
    assert document["openapi"].startswith("3.")
    assert {"/sse", "/poll", "/rpc", "/auth/ticket", "/auth/refresh", "/auth/logout"} <= document[
        "paths"
    ].keys()


# Readiness when something is missing


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[System]:
    async with system() as running:
        yield running


def readiness(program: Program, status: int) -> Any:
    async def holds() -> bool:
        return (await program.status("/readyz")) == status

    return holds


@pytest.mark.rule("OP1")
@pytest.mark.parametrize("service", SERVICES)
async def test_a_gateway_is_not_ready_while_a_service_does_not_answer(own: System, service: str) -> None:
    program = own.of(service)[0]
    await program.kill()
    await until(readiness(own.gateway, 503), 4 * WAIT)
    status, body = await get(own.gateway, "/readyz")
    assert status == 503
    assert service in str(body)
    assert (await get(own.gateway, "/healthz"))[0] == 200
    program.start()
    await program.ready()
    await until(readiness(own.gateway, 200), 4 * WAIT)


@pytest.mark.rule("OP1")
async def test_nobody_is_ready_without_nats_and_all_come_back_with_it(own: System) -> None:
    await own.nats.kill()
    async with asyncio.timeout(6 * WAIT):
        await asyncio.gather(*(until(readiness(program, 503), 6 * WAIT) for program in own.programs))
        for program in own.programs:
            assert (await get(program, "/healthz"))[0] == 200
        await own.nats.start()
        await asyncio.gather(*(until(readiness(program, 200), 6 * WAIT) for program in own.programs))
    players = Players(own, "the-inn", "websocket-json")
    ann = await players("ann")
    await ann.draw("s")
    await players.leave()


@pytest.mark.rule("OP1", "EN7")
async def test_a_request_to_a_service_that_is_away_fails_soon_and_may_be_repeated(own: System) -> None:
    players = Players(own, "the-tavern", "websocket-json")
    ann = await players("ann")
    (canvas,) = own.of("canvas")
    canvas.send(signal.SIGSTOP)
    try:
        ident = "patient"
        await ann.transmit(
            {
                "type": "request",
                "id": ident,
                "method": "activity.post",
                "params": {"type": "note_edited", "data": {"noteId": "n"}},
            }
        )
        await ann.wait_for(lambda: any(m.get("id") == ident for m in ann.messages))
        error = await refused(ann.draw("s", ident="draw", wait=6 * WAIT))
        assert error.word == (1013, "unavailable")
    finally:
        canvas.send(signal.SIGCONT)
    await until(readiness(own.gateway, 200), 4 * WAIT)
    assert (await ann.draw("s", ident="draw", wait=2 * WAIT))["operations"] == ["s"]
    await ann.event("canvas.draw")
    assert ann.strokes() == ["s"]
    await players.leave()


@pytest.mark.rule("OP1", "AU2")
async def test_health_needs_no_token_and_tells_none(table: System) -> None:
    async with http(table.gateway) as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            answer = await client.get(path, headers={"Authorization": f"Bearer {token('ann')}"})
            assert answer.status_code == 200
            assert "eyJ" not in answer.text
