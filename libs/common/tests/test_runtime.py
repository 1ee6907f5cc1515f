"""A whole process: how it starts, what it tells, how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import anyio
import httpx
import nats.errors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from roundtable.common import runtime
from roundtable.common.command_client import CommandClient
from roundtable.common.config import ConfigError, Settings
from roundtable.common.runtime import Process
from roundtable.common.tasks import end
from roundtable.common.telemetry import log
from roundtable.common.testing.jetstream import connected, freeze, provisioned_server, settings_for
from roundtable.common.testing.nats import NatsServer, free_port, nats_server
from roundtable.common.testing.system import Program
from roundtable.common.testing.tls import Authority
from roundtable.common.testing.toy import command, did, put, words


def program(home: Path, server: NatsServer | None = None, **settings: str) -> Program:
    url = server.url if server is not None else f"nats://ada:secret@127.0.0.1:{free_port()}"
    environment = {f"ROUNDTABLE_{name}": value for name, value in ({"NATS_URL": url} | settings).items()}
    found = Program("canvas-1", "common.testing.toy", environment, home)
    found.start()
    return found


async def ended(program: Program, within: float = 10) -> int:
    """Its exit status, when it ends by itself."""
    with anyio.fail_after(within):
        while program.running:
            await asyncio.sleep(0.01)
    return await program.end()


def lines(program: Program) -> list[dict[str, Any]]:
    """Every line of its log is one object."""
    return [json.loads(line) for line in program.log().splitlines()]


def line(program: Program, event: str) -> dict[str, Any]:
    return next(each for each in lines(program) if each["event"] == event)


# How it does not start


async def test_a_wrong_environment_ends_it_with_2_and_all_variables_named(tmp_path: Path) -> None:
    wrong = program(tmp_path, REPLICAS="nine", LOG_LEVEL="LOUD", START_TIMEOUT="0")
    assert await ended(wrong) == 2
    told = wrong.log()
    assert all(f"ROUNDTABLE_{name}" in told for name in ("REPLICAS", "LOG_LEVEL", "START_TIMEOUT"))
    assert "Traceback" not in told


async def test_without_nats_it_ends_with_1_and_says_where_there_was_none(tmp_path: Path) -> None:
    began = time.monotonic()
    lonely = program(tmp_path, START_TIMEOUT="0.5")
    assert await ended(lonely) == 1
    assert time.monotonic() - began > 0.5
    error = line(lonely, "start.failed")
    assert error["level"] == "ERROR"
    assert "no NATS at 127.0.0.1:" in error["error"]
    assert "within 0.5 s" in error["error"]
    assert "secret" not in lonely.log()


async def test_while_it_waits_for_nats_the_same_trouble_is_told_once(tmp_path: Path) -> None:
    lonely = program(tmp_path, START_TIMEOUT="1")
    assert await ended(lonely) == 1
    assert [each["event"] for each in lines(lonely)].count("nats.error") == 1


async def test_a_server_whose_certificate_was_refused_is_tried_again(tmp_path: Path) -> None:
    """It may have a better one by then, or its neighbour has."""
    known = Authority()

    def give(authority: Authority) -> None:
        pair = authority.sign(["127.0.0.1"])
        (tmp_path / "tls.crt").write_bytes(pair.certificate)
        (tmp_path / "tls.key").write_bytes(pair.key)

    (tmp_path / "ca.crt").write_bytes(known.certificate)
    give(Authority("somebody else"))
    tls = f'tls {{ cert_file: "{tmp_path}/tls.crt", key_file: "{tmp_path}/tls.key" }}'
    async with nats_server(extra=tls) as server:
        settings = replace(settings_for(server), nats_tls_ca=str(tmp_path / "ca.crt"), start_timeout=20)
        connecting = asyncio.create_task(runtime.connect(settings, "test"))
        with anyio.fail_after(10):
            while server.log().count("TLS handshake error") < 2:  # one was the question whether it is up
                await asyncio.sleep(0.01)
        give(known)
        await server.restart()
        client = await connecting
        assert client.is_connected
        await client.close()


async def test_a_port_that_is_taken_ends_it_with_1_and_the_variable_named(
    server: NatsServer, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        late = Program("canvas-1", "common.testing.toy", {"ROUNDTABLE_NATS_URL": server.url}, tmp_path)
        late._environment["ROUNDTABLE_HTTP_PORT"] = str(port)
        late.start()
        assert await ended(late) == 1
    error = line(late, "start.failed")["error"]
    assert str(port) in error
    assert "ROUNDTABLE_HTTP_PORT" in error


async def test_told_to_stop_while_it_waits_for_nats_it_ends_with_0(tmp_path: Path) -> None:
    waiting = program(tmp_path)
    with anyio.fail_after(10):
        while "nats.error" not in waiting.log():
            await asyncio.sleep(0.01)
    began = time.monotonic()
    assert await waiting.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 6


# How it runs and ends


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_it_is_told_to_stop_and_answers_what_it_has_taken(
    server: NatsServer, tmp_path: Path, how: signal.Signals
) -> None:
    service, room = program(tmp_path, server), f"runtime-{how.name}"
    with anyio.fail_after(20):
        await service.ready()
        async with connected(server) as client, httpx.AsyncClient(base_url=service.http) as http:
            commands = CommandClient(client)
            await commands.start()
            asked = [
                asyncio.create_task(commands.request("canvas", room, put(f"{n}", id=f"{n}")))
                for n in range(200)
            ]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            alive, ready, metrics = [(await http.get(path)) for path in ("/healthz", "/readyz", "/metrics")]
            assert alive.json()["status"] == "alive"
            assert (alive.status_code, ready.status_code) == (200, 200)
            assert ready.json() | {"checks": {}} == {
                "status": "ready",
                "service": "canvas",
                "instance": "canvas-1",
                "checks": {},
            }
            assert set(ready.json()["checks"].values()) == {"ok"}
            assert metrics.headers["content-type"].startswith("text/plain")
            assert "roundtable_partitions_owned 32.0" in metrics.text
            assert "process_open_fds" in metrics.text
            asked += [
                asyncio.create_task(commands.request("canvas", room, put(f"{n}", id=f"{n}"), 1))
                for n in range(200, 300)
            ]
            await asyncio.sleep(0)
            await client.flush()
            assert await service.end(how) == 0
            answers = await asyncio.gather(*asked, return_exceptions=True)
            done = [answer for answer in answers if not isinstance(answer, BaseException)]
            assert len(done) >= 200
            assert all(len(did(answer)) == 1 for answer in done)
        events = [each["event"] for each in lines(service)]
        assert "stopping" in events
        assert events[-1] == "stopped"
        assert not [each for each in lines(service) if each["level"] != "INFO"]
        service.start()
        await service.ready()
        async with connected(server) as client:
            commands = CommandClient(client)
            await commands.start()
            stored = words(await commands.request("canvas", room, command("state")))
            assert len(stored) == len(set(stored)) >= len(done)
        assert await service.end(how) == 0


async def test_while_nats_is_away_it_lives_is_not_ready_and_can_be_stopped(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with provisioned_server() as server:
            service = program(tmp_path, server)
            await service.ready()
            async with httpx.AsyncClient(base_url=service.http) as http:
                await server.kill()
                while (answer := await http.get("/readyz")).status_code != 503:
                    await asyncio.sleep(0.02)
                assert answer.json()["status"] == "not ready"
                assert answer.json()["checks"]["nats"] == "not connected"
                assert (await http.get("/healthz")).status_code == 200
                await server.start()
                while (await http.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.02)
                await server.kill()
                while (await http.get("/readyz")).status_code != 503:
                    await asyncio.sleep(0.02)
            began = time.monotonic()
            assert await service.end(signal.SIGTERM) == 0
            assert time.monotonic() - began < 5


# In this process


@pytest.fixture
def settings(server: NatsServer) -> Settings:
    return replace(settings_for(server), http_port=0)


@pytest.fixture(autouse=True)
def as_before(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    import logging

    kept, root = dict(vars(log)), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    vars(log).update(kept)
    root.handlers[:] = handlers
    root.setLevel(level)


async def run(settings: Settings, start: Callable[[Process[Settings]], Awaitable[Any]]) -> int:
    """As `main` does, in a loop of this process; every task that it leaves is ended, so this one is shielded."""
    ours = asyncio.all_tasks()

    async def end_tasks() -> None:
        await end(*(task for task in asyncio.all_tasks() - ours if task is not asyncio.current_task()))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runtime, "_end_tasks", end_tasks)
        with anyio.fail_after(10):
            return await runtime._run("canvas", settings, start, True)


async def test_when_the_server_will_not_have_it_any_more_it_ends_with_1(settings: Settings) -> None:
    stopped = False

    async def start(process: Process[Settings]) -> Callable[[], Awaitable[None]]:
        async def stop() -> None:
            nonlocal stopped
            stopped = True

        await process.client._process_err("'user authentication revoked'")
        return stop

    assert await run(settings, start) == 1
    assert stopped


@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError("no"), 1), (TimeoutError("no"), 1), (nats.errors.Error("no"), 1), (ConfigError("no"), 2)],
)
async def test_a_service_that_cannot_start_ends_with_its_status(
    settings: Settings, error: Exception, status: int
) -> None:
    async def start(process: Process[Settings]) -> Callable[[], Awaitable[None]]:
        await process.serve()
        raise error

    assert await run(settings, start) == status


async def test_what_a_service_hooks_in_is_called_when_nats_is_back() -> None:
    called = asyncio.Event()
    async with provisioned_server() as server:

        async def start(process: Process[Settings]) -> Callable[[], Awaitable[None]]:
            process.reconnected.append(called.set)
            await server.restart()
            await called.wait()  # though the service is still at its start

            async def stop() -> None:
                pass

            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
            return stop

        assert await run(replace(settings_for(server), http_port=0), start) == 0


@pytest.mark.rule("OP1")
async def test_a_check_that_fails_is_told_and_not_thrown_and_can_be_left_out(settings: Settings) -> None:
    answers: list[httpx.Response] = []

    async def start(process: Process[Settings]) -> Callable[[], Awaitable[None]]:
        async def check() -> str:
            raise ZeroDivisionError("by nothing")

        process.checks["odd"] = check
        await process.serve()
        assert process._server is not None
        port = process._server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient() as http:
            ready = f"http://127.0.0.1:{port}/readyz"
            answers.append(await http.get(ready))
            answers.append(await http.get(f"{ready}?exclude=odd"))
            answers.append(await http.get(f"{ready}?exclude=nats&exclude=nonsense"))
            process.stopping.set()
            answers.append(await http.get(f"{ready}?exclude=odd&exclude=process"))
        raise OSError("enough")

    assert await run(settings, start) == 1
    whole, without, other, ending = answers
    assert whole.status_code == 503
    assert whole.json()["checks"] == {"nats": "ok", "odd": "ZeroDivisionError('by nothing')"}
    assert without.status_code == 200
    assert without.json()["checks"] == {"nats": "ok"}
    assert other.status_code == 503
    assert other.json()["checks"] == {"odd": "ZeroDivisionError('by nothing')"}
    assert ending.status_code == 503
    assert ending.json()["checks"] == {"nats": "ok", "process": "draining"}


# The connection


@pytest.fixture
async def frozen() -> AsyncIterator[tuple[NatsServer, Any]]:
    with anyio.fail_after(20):
        async with provisioned_server() as server, connected(server) as client:
            await freeze(server, client)
            yield server, client


async def test_a_flush_that_was_given_up_does_not_make_the_connection_deaf(
    frozen: tuple[NatsServer, Any],
) -> None:
    server, client = frozen
    cancelled = asyncio.create_task(client.flush())
    await asyncio.sleep(0)
    cancelled.cancel()
    server.thaw()
    for _ in range(5):
        await client.flush(timeout=2)
    await client.request("$JS.API.INFO", b"", timeout=2)


# -- certificates


def certificate(folder: Path, end: datetime) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats")])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    shown, secret = folder / "cert.pem", folder / "key.pem"
    shown.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return shown, secret


@pytest.mark.rule("OP1")
async def test_the_metrics_tell_when_the_certificate_of_nats_ends(tmp_path: Path) -> None:
    end = datetime(2099, 8, 7, 6, 5, 4, tzinfo=UTC)
    shown, secret = certificate(tmp_path, end)
    async with nats_server(extra=f'tls {{ cert_file: "{shown}", key_file: "{secret}" }}') as server:
        settings = replace(
            Settings(),
            nats_url=f"tls://127.0.0.1:{server.port}",
            nats_tls_ca=str(shown),
            http_port=free_port(),
        )
        client = await runtime.connect(settings, "test")
        try:
            process = Process("test", settings, client)
            await process.serve()
            async with httpx.AsyncClient(trust_env=False) as http:
                text = (await http.get(f"http://127.0.0.1:{settings.http_port}/metrics")).text
            await process.stop_serving()
        finally:
            await client.close()
    [told] = re.findall(r"^roundtable_nats_certificate_expires_timestamp_seconds (\S+)$", text, re.MULTILINE)
    assert float(told) == end.timestamp()
    assert "roundtable_nats_connected 1.0" in text
