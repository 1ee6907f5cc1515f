"""The whole system under the deployment's own NATS users, over TLS: each may do its work, and nobody else's."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import secrets
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import nats
import nats.errors
import pytest
from nats.aio.client import Client

from roundtable.common.schema.log import SERVICES
from roundtable.common.testing.players import Player, PollPlayer, SSEPlayer, WebSocketPlayer, stroke, token
from roundtable.common.testing.system import Program, System
from roundtable.common.testing.tls import Authority

USERS: Final = Path(__file__).parents[2] / "deploy/k8s/base/nats/users.conf"
ROOM: Final = "vault"
FOREIGN: Final = {
    "gateway": ["rt.evt.canvas.x", "rt.evt.presence.x", "$KV.rt_canvas_snapshots.x", "$JS.API.STREAM.PURGE.CANVAS"],
    "canvas": ["rt.evt.presence.x", "rt.evt.activity.x", "$KV.rt_sessions.x", "$JS.API.STREAM.DELETE.CANVAS"],
    "presence": ["rt.evt.canvas.x", "rt.evt.activity.x", "$KV.rt_gateways.x", "rt.cmd.canvas.any.x"],
    "activity": ["rt.evt.canvas.x", "rt.evt.presence.x", "$O.rt_canvas_large.C.x", "rt.out.canvas.x"],
    "provision": ["rt.evt.canvas.x", "$JS.API.STREAM.DELETE.CANVAS", "$JS.API.STREAM.MSG.GET.CANVAS"],
}  # fmt: skip
"""Subjects on which a user may say nothing."""
UNHEARD: Final = {
    "gateway": ["rt.evt.>", "rt.cmd.>", "_INBOX_canvas.>", ">"],
    "canvas": ["rt.out.activity.*", "_INBOX_gateway.>", "rt.cmd.activity.>", ">"],
    "presence": ["rt.out.activity.*", "rt.evt.presence.*", "$KV.>", ">"],
    "activity": ["rt.cmd.canvas.>", "_INBOX_gateway.>", "rt.eph.*", ">"],
    "provision": ["rt.out.>", "_INBOX.>", ">"],
}
"""Subjects to which a user may not listen."""


class House:
    """A system whose nats-server wants TLS and a password of everybody."""

    def __init__(self, home: Path) -> None:
        users = USERS.read_text()
        users = users.replace("$NATS_ACCOUNT_MEMORY", "200MB").replace("$NATS_ACCOUNT_STORE", "3GB")
        names = re.findall(r"\$NATS_([A-Z]+)_PASSWORD", users)
        self._passwords = {name.lower(): f"p{secrets.token_hex(12)}" for name in names}
        for name, password in self._passwords.items():
            users = users.replace(f"$NATS_{name.upper()}_PASSWORD", password)
        authority = Authority()
        pair = authority.sign(["127.0.0.1"])
        self._ca = home / "ca.pem"
        self._ca.write_bytes(authority.certificate)
        (home / "tls.pem").write_bytes(pair.certificate)
        (home / "tls.key").write_bytes(pair.key)
        tls = f'tls {{ cert_file: "{home}/tls.pem", key_file: "{home}/tls.key" }}\n'
        self.system = System(home, gateways=0, replicas=0, settings={"PROVISION": "0"}, nats=tls + users)

    async def provision(self) -> int:
        """Does what the deployment's job does, and returns its status."""
        settings = {"NATS_URL": self.system.nats.url} | self._settings("provision")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "roundtable.common.provision",
            env=os.environ | {f"ROUNDTABLE_{name}": value for name, value in settings.items()},
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return await process.wait()

    async def start(self) -> None:
        for service in (*SERVICES, "gateway"):
            for _ in range(2):
                await self.system.add(service, **self._settings(service))
        await asyncio.gather(*(program.ready() for program in self.system.programs))

    async def connect(self, user: str, errors: list[str], password: str = "") -> Client:
        async def on_error(error: Exception) -> None:
            errors.append(str(error))

        return await nats.connect(
            self.system.nats.url,
            user=user,
            password=password or self._passwords[user],
            tls=ssl.create_default_context(cafile=self._ca),
            allow_reconnect=False,
            error_cb=on_error,
        )

    def _settings(self, user: str) -> dict[str, str]:
        password = self._passwords[user]
        return {"NATS_USER": user, "NATS_PASSWORD": password, "NATS_TLS_CA": str(self._ca)}


@pytest.fixture(scope="module")
async def house(anyio_backend: str) -> AsyncIterator[House]:
    with tempfile.TemporaryDirectory(prefix="roundtable-") as home:
        house = House(Path(home))
        async with house.system:
            assert await house.provision() == 0
            await house.start()
            yield house


async def post(program: Program, path: str, bearer: str) -> bytes:
    async with httpx.AsyncClient(base_url=program.http, trust_env=False) as http:
        response = await http.post(path, headers={"Authorization": f"Bearer {bearer}"})
    assert response.is_success, response.text
    return response.content


def scribble(ident: str, chance: random.Random) -> dict[str, Any]:
    points = [{"x": chance.uniform(-1e5, 1e5), "y": chance.uniform(-1e5, 1e5)} for _ in range(800)]
    return stroke(ident, points=points)


async def test_every_program_does_all_its_work_with_its_own_user(house: House) -> None:
    """All that touches NATS: commands, reading logs back, snapshots large and small, leases, sessions, what passes."""
    system = house.system
    one, two = system.of("gateway")
    async with AsyncExitStack() as stack:

        async def enter(player: Player, cursor: str = "") -> Player:
            await player.connect(cursor)
            stack.push_async_callback(player.close)
            return player

        ann = await enter(WebSocketPlayer(one.ws, "ann", ROOM, "gm"))
        start = ann.cursor or ann.welcome["cursor"]
        bob = await enter(SSEPlayer(two.http, "bob", ROOM))
        chance = random.Random(5)
        for number in range(110):  # a snapshot comes after 100 events, and this is too large for one message
            await ann.request("canvas.draw", {"operations": [scribble(f"s{number}", chance)]}, wait=20)
        await bob.request("activity.post", {"type": "dice_roll", "data": {"expression": "2d6"}}, wait=20)
        await bob.request("presence.update", {"status": "away"}, wait=20)
        await ann.tell("presence.cursor", {"x": 1, "y": 2})
        await bob.event("presence.cursor", wait=20)
        await ann.request("canvas.clear", {"scope": "all"}, wait=20)
        await bob.event("activity.post", lambda data: data["type"] == "map_updated", wait=20)
        await ann.request("canvas.undo", wait=20)
        await bob.request("auth.refresh", {"token": token("bob")}, wait=20)

        for program in system.of("canvas"):  # the next ones begin with what these have left
            assert await program.end() == 0
            program.start()
            await program.ready()
        cyd = await enter(PollPlayer(two.http, "cyd", ROOM))
        assert len((await cyd.snapshots())["canvas"]) == 110
        late = await enter(WebSocketPlayer(two.ws, "dan", ROOM), start)
        await late.wait_for(lambda: late.cursor == ann.cursor, wait=20)

        session = token("eve", sid="session-of-eve")
        eve = await enter(WebSocketPlayer(one.ws, "eve", ROOM, token=session))
        ticket = json.loads(await post(two, "/auth/ticket", session))["ticket"]
        again = await enter(
            WebSocketPlayer(one.ws, "eve", ROOM, token="", query=f"room={ROOM}&ticket={ticket}")
        )
        await post(two, "/auth/logout", session)
        assert [await each.close_code() for each in (eve, again)] == [(1008, "revoked")] * 2

        await two.kill()  # its people are gone with its lease
        await ann.event(
            "presence.update", lambda data: data["userId"] == "cyd" and data["status"] == "offline", wait=20
        )
        two.start()
        await two.ready()
    assert [line for line in system.nats.log().splitlines() if "iolation" in line] == []
    for program in system.programs:
        assert "not_loaded" not in program.log()
        assert "not_saved" not in program.log()


async def test_provisioning_again_changes_nothing(house: House) -> None:
    assert await house.provision() == 0


@pytest.mark.parametrize("user", FOREIGN)
async def test_no_program_may_say_or_hear_what_is_anothers(house: House, user: str) -> None:
    errors: list[str] = []
    client = await house.connect(user, errors)
    for subject in FOREIGN[user]:
        await client.publish(subject, b"")
    for subject in UNHEARD[user]:
        await client.subscribe(subject)
    wanted = {f'nats: permissions violation for publish to "{each.lower()}"' for each in FOREIGN[user]}
    wanted |= {f'nats: permissions violation for subscription to "{each.lower()}"' for each in UNHEARD[user]}
    async with asyncio.timeout(5):
        while not wanted <= {*errors}:
            await asyncio.sleep(0.01)
    await client.close()


async def test_nobody_comes_in_with_a_wrong_password_or_without_tls(house: House) -> None:
    errors: list[str] = []
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await house.connect("gateway", errors, "wrong")
    _, port = house.system.nats.url.rsplit(":", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    await reader.readline()
    writer.write(b'CONNECT {"user":"gateway","pass":"x"}\r\nPING\r\n')
    async with asyncio.timeout(5):
        assert b"PONG" not in await reader.read()
    writer.close()
