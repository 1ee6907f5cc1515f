"""What no network spares a client, against the real system: nothing may be lost or doubled (CL1–CL4)."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from roundtable.client import PollingClient, RealtimeClient, RoundtableError, SSEClient, WebSocketClient
from roundtable.common.testing.gate import EVERYTHING, Gate, Kind, gate
from roundtable.common.testing.players import WAIT, token
from roundtable.common.testing.system import Program, System

CLIENTS = {"websocket": WebSocketClient, "sse": SSEClient, "poll": PollingClient}
QUICK: dict[str, Any] = {"reconnect_delay": 0.02, "max_reconnect_attempts": 2}
PATIENT: dict[str, Any] = {"reconnect_delay": 0.05, "max_reconnect_attempts": 200}


def stroke(ident: str) -> dict[str, Any]:
    points = [{"x": 1, "y": 2}, {"x": 3, "y": 4}]
    operation = {"type": "draw", "tool": "pen", "color": "#c33", "size": 4, "points": points, "id": ident}
    return {"operations": [operation]}


class Watched:
    """A client, and all that it was told."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.drawn: list[str] = []
        self.states: list[str] = []
        self._news = asyncio.Event()
        client.on("draw", lambda data, _: self.drawn.extend(each.id for each in data.operations))
        client.on("*", lambda _, event: self._note(event.name))

    def _note(self, name: str) -> None:
        self.states.append(name)
        self._news.set()

    async def until(self, condition: Callable[[], bool], within: float = 4 * WAIT) -> None:
        async with asyncio.timeout(within):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def draw(self, ident: str) -> asyncio.Task[Any]:
        return asyncio.create_task(self.client.request("canvas.draw", stroke(ident), timeout=8 * WAIT))


def is_by(watched: Watched, transport: str) -> bool:
    return bool(watched.client.transport == transport)


async def kept(system: System, room: str, program: Program | None = None) -> list[str]:
    """What the canvas holds in the end."""
    program = program or system.of("gateway")[-1]
    async with RealtimeClient(program.ws, room=room, token=token("judge", room)) as judge:
        return [each.id for each in (await judge.request("canvas.state", timeout=4 * WAIT)).operations]


@pytest.fixture
async def door(table: System) -> AsyncIterator[Gate]:
    async with gate(table.gateway.port) as made:
        yield made


@pytest.mark.rule("CL1", "CL2", "CL3", "CL4")
async def test_down_all_transports_to_offline_and_back_nothing_is_lost_or_doubled(
    table: System, room: str, door: Gate
) -> None:
    bob = Watched(RealtimeClient(table.of("gateway")[1].ws, room=room, token=token("bob", room)))
    ann = Watched(RealtimeClient(door.url, room=room, token=token("ann", room), **QUICK))
    asked: list[asyncio.Task[Any]] = []
    expected: list[str] = []

    async def everybody_draws(phase: str) -> None:
        await bob.draw(f"bob-{phase}")
        asked.append(ann.draw(f"ann-{phase}"))
        expected.extend((f"bob-{phase}", f"ann-{phase}"))

    async with ann.client, bob.client:
        await everybody_draws("at-first")
        down: tuple[tuple[Kind, str], ...] = (("websocket", "sse"), ("sse", "poll"))
        for blocked, transport in down:
            door.block(blocked, "websocket")
            await everybody_draws(f"without-{blocked}")
            await ann.until(partial(is_by, ann, transport))
            await everybody_draws(f"by-{transport}")
            await asyncio.wait_for(asyncio.gather(*asked), 4 * WAIT)
        door.block(*EVERYTHING)
        await everybody_draws("cut-off")
        await ann.until(lambda: ann.client.state == "offline")
        for number in range(30):
            await everybody_draws(f"offline-{number}")
        assert ann.states.count("offline") == 1
        door.block()
        ann.client.wake()
        await ann.until(lambda: ann.client.transport == "websocket")
        await asyncio.wait_for(asyncio.gather(*asked), 4 * WAIT)
        await everybody_draws("at-last")
        await asyncio.wait_for(asyncio.gather(*asked), 4 * WAIT)
        await ann.until(lambda: len(ann.drawn) >= len(expected))
        await bob.until(lambda: len(bob.drawn) >= len(expected))
    canvas = await kept(table, room)
    assert sorted(canvas) == sorted(expected)
    assert ann.drawn == bob.drawn == canvas
    mine = [ident for ident in expected if ident.startswith("ann-")]
    assert [ident for ident in canvas if ident.startswith("ann-")] == mine


@pytest.mark.rule("CL1", "CL2", "CL3", "CL4")
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_the_network_does_everybody_sees_everything_once(
    table: System, room: str, door: Gate, seed: int
) -> None:
    chance = Random(seed)
    kinds: list[Kind] = ["websocket", "sse", "poll", "rpc"]
    ann = Watched(RealtimeClient(door.url, room=room, token=token("ann", room), **QUICK))
    bob = Watched(RealtimeClient(table.gateway.ws, room=room, token=token("bob", room)))
    asked: list[asyncio.Task[Any]] = []
    async with ann.client, bob.client:
        for step in range(60):
            asked.append((bob if step % 3 == 0 else ann).draw(f"s{step}"))
            match chance.randrange(5):
                case 0:
                    door.block(*chance.sample(kinds, chance.randrange(5)))
                case 1:
                    door.target = chance.choice(table.of("gateway")).port
                    door.cut()
                case 2:
                    door.blocked = frozenset()
                    ann.client.wake()
                case _:
                    await bob.draw(f"b{step}")  # some time passes
        door.block()
        ann.client.wake()
        await asyncio.wait_for(asyncio.gather(*asked), 8 * WAIT)
        canvas = [each.id for each in (await bob.client.request("canvas.state")).operations]
        await ann.until(lambda: len(ann.drawn) >= len(canvas))
        await bob.until(lambda: len(bob.drawn) >= len(canvas))
    assert ann.states.count("connected") > 3
    assert {f"s{step}" for step in range(60)} <= set(canvas)
    assert ann.drawn == bob.drawn == canvas


@pytest.mark.rule("CL1", "CL3", "RS2")
async def test_it_rises_to_the_better_transport_without_a_gap(table: System, room: str, door: Gate) -> None:
    door.block("websocket")
    ann = Watched(RealtimeClient(door.url, room=room, token=token("ann", room), **QUICK))
    async with ann.client, RealtimeClient(table.gateway.ws, room=room, token=token("bob", room)) as bob:
        assert ann.client.transport == "sse"
        door.blocked = frozenset()
        ann.client.wake()
        number = 0
        while ann.client.transport != "websocket" or number < 20:
            number += 1
            await bob.request("canvas.draw", stroke(f"s{number}"), timeout=WAIT)
        await ann.until(lambda: len(ann.drawn) >= number)
        assert ann.drawn == [f"s{each}" for each in range(1, number + 1)]
        assert "disconnected" not in ann.states


@pytest.mark.rule("CL1", "CL2", "CL3")
@pytest.mark.parametrize("form", CLIENTS)
async def test_a_killed_gateway_costs_a_client_nothing(
    table: System, room: str, door: Gate, form: str
) -> None:
    victim = await table.add("gateway")
    await victim.ready()
    door.target = victim.port
    ann = Watched(CLIENTS[form](door.url, room=room, token=token("ann", room), **PATIENT))
    async with ann.client:
        asked = [ann.draw(f"s{number}") for number in range(40)]
        await asked[5]
        await victim.kill()
        door.target = table.gateway.port
        asked += [ann.draw(f"s{number}") for number in range(40, 60)]
        answers = await asyncio.wait_for(asyncio.gather(*asked), 8 * WAIT)
        assert [list(each.operations) for each in answers] == [[f"s{number}"] for number in range(60)]
        await ann.until(lambda: len(ann.drawn) >= 60)
    table.programs.remove(victim)
    assert Counter(ann.drawn) == Counter(f"s{number}" for number in range(60))
    assert await kept(table, room, table.gateway) == ann.drawn


@pytest.mark.rule("CL1", "CO10")
@pytest.mark.parametrize("form", CLIENTS)
async def test_a_draining_gateway_is_left_for_another(
    table: System, room: str, door: Gate, form: str
) -> None:
    leaving = await table.add("gateway")
    await leaving.ready()
    door.target = leaving.port
    ann = Watched(CLIENTS[form](door.url, room=room, token=token("ann", room), **PATIENT))
    async with ann.client:
        await ann.draw("before")
        door.target = table.gateway.port
        leaving.send(signal.SIGTERM)
        await ann.until(lambda: ann.states.count("connected") == 2)
        await ann.draw("after")
        await ann.until(lambda: ann.drawn == ["before", "after"])
        assert ann.client.welcome.recovered
    await leaving.end()
    table.programs.remove(leaving)


@pytest.mark.rule("CL1", "CL2")
@pytest.mark.parametrize("form", ["websocket", "sse"])
async def test_a_connection_that_hangs_without_a_word_is_given_up(
    table: System, room: str, door: Gate, form: str
) -> None:
    quick = await table.add("gateway", HEARTBEAT_SECONDS="0.2")
    await quick.ready()
    door.target = quick.port
    ann = Watched(
        CLIENTS[form](door.url, room=room, token=token("ann", room), heartbeat_interval=0.2, **PATIENT)
    )
    async with ann.client:
        door.silence()
        lost = ann.draw("into-the-hole")
        await ann.until(lambda: ann.states.count("connected") == 2)
        await lost
    assert await kept(table, room, table.gateway) == ["into-the-hole"]
    await quick.kill()
    table.programs.remove(quick)


@pytest.mark.rule("CL1", "AU3")
async def test_a_token_that_ended_while_away_is_replaced(table: System, room: str, door: Gate) -> None:
    asked = []

    def get_token() -> str:
        asked.append(1)
        return token("ann", room, ttl=-60 if len(asked) == 2 else 3_600)

    ann = Watched(RealtimeClient(door.url, room=room, get_token=get_token, **QUICK))
    async with ann.client:
        door.cut()
        await ann.until(lambda: ann.states.count("connected") == 2)
        assert len(asked) == 3
        assert ann.client.transport == "websocket"


@pytest.mark.rule("CL1", "AU4")
@pytest.mark.parametrize("form", CLIENTS)
async def test_who_was_logged_out_stops_for_good(table: System, room: str, form: str) -> None:
    said = token("ann", room, sid=f"session-{room}-{form}")
    ann = Watched(CLIENTS[form](table.gateway.ws, room=room, token=said, **PATIENT))
    async with ann.client:
        async with httpx.AsyncClient(verify=False, trust_env=False) as http:
            address = f"{table.gateway.http}/auth/logout"
            assert (await http.post(address, headers={"Authorization": f"Bearer {said}"})).is_success
        await ann.until(lambda: ann.client.state == "closed")
        with pytest.raises(RoundtableError) as refused:
            await ann.client.request("canvas.state")
        assert refused.value.reason == "revoked"


@pytest.mark.rule("LI2", "CL2")
@pytest.mark.parametrize("form", ["websocket", "poll"])
async def test_a_client_never_loses_a_request_to_the_rate_limit(table: System, room: str, form: str) -> None:
    """Two connections of one user share what the server grants, which neither of them knows."""
    strict = await table.add("gateway", MESSAGES_PER_MINUTE="60")
    await strict.ready()
    pair = [Watched(CLIENTS[form](strict.ws, room=room, token=token("ann", room))) for _ in range(2)]
    async with pair[0].client, pair[1].client:
        asked = [each.draw(f"s{number}-{n}") for number in range(31) for n, each in enumerate(pair)]
        await asyncio.wait_for(asyncio.gather(*asked), 8 * WAIT)
        assert all("disconnected" not in each.states for each in pair)
    await strict.kill()
    table.programs.remove(strict)
    assert len(await kept(table, room, table.gateway)) == 62


@pytest.mark.parametrize("form", CLIENTS)
async def test_over_tls_a_certificate_must_be_signed_by_whom_one_trusts(
    table: System, room: str, tmp_path: Path, form: str
) -> None:
    ours, theirs = certificate(tmp_path)
    async with gate(table.gateway.port, theirs) as door:
        assert door.url.startswith("wss:")
        options: dict[str, Any] = {"room": room, "token": token("ann", room), "max_reconnect_attempts": 1}
        async with CLIENTS[form](door.url, ssl_context=ours, **options) as ann:
            assert (await ann.request("canvas.draw", stroke("s"), timeout=WAIT)).operations == ("s",)
        with pytest.raises(RoundtableError, match="CERTIFICATE_VERIFY_FAILED"):
            await CLIENTS[form](door.url, **options).connect()


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's context that trusts a new certificate of this machine, and a server's that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "roundtable")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, SHA256())
    )
    pem = made.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(pem + secret)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "server.pem")
    return ssl.create_default_context(cadata=pem.decode()), server


@pytest.mark.rule("CL1")
async def test_a_server_that_is_not_there_is_told_and_looked_for(
    table: System, room: str, door: Gate
) -> None:
    door.block(*EVERYTHING)
    client = RealtimeClient(door.url, room=room, token=token("ann", room), **QUICK)
    with pytest.raises(ConnectionError):
        await client.connect()
    assert client.state == "offline"
    waiting = asyncio.create_task(client.request("presence.list"))
    door.block()
    client.wake()
    assert (await asyncio.wait_for(client.connect(), WAIT)).user_id == "ann"
    assert (await asyncio.wait_for(waiting, WAIT)).presence
    await client.disconnect()
