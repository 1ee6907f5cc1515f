"""`make run` with small programs in the services' places: what it shows, keeps alive, refuses and leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from roundtable.common.config import ConfigError
from roundtable.common.localrun import runner as runner_module
from roundtable.common.localrun.child import Child, Program
from roundtable.common.localrun.lines import Painter, Splitter
from roundtable.common.localrun.plan import Plan, Refused
from roundtable.common.localrun.runner import Runner
from roundtable.common.localrun.screen import Screen

NOON = datetime(2026, 1, 2, 12, 0, 0, 5_000, tzinfo=UTC)
ENVIRONMENT = {**os.environ, "ROUNDTABLE_HTTP_PORT": "0", "ROUNDTABLE_NATS_PORT": "0"}


class Journal:
    """Everything that was said, as `name LEVEL text`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, name: str, level: str, text: str) -> None:
        self.lines.append(f"{name} {level} {text}")

    async def until(self, holds: Callable[[], object], within: float = 10.0) -> None:
        async with asyncio.timeout(within):
            while not holds():
                await asyncio.sleep(0.01)

    async def says(self, text: str, times: int = 1) -> None:
        await self.until(lambda: sum(text in line for line in self.lines) >= times)


@pytest.fixture
def journal() -> Journal:
    return Journal()


def python(name: str, code: str) -> Program:
    return Program(name, (sys.executable, "-uc", code), ENVIRONMENT)


def gone(pid: int) -> bool:
    """No such process, or one that is dead and only not yet collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# Lines


def plain() -> Painter:
    return Painter(lambda: NOON, colour=False)


def test_a_record_becomes_a_readable_line() -> None:
    moment = datetime(2026, 1, 2, 11, 59, 58, 123_000, tzinfo=UTC)
    record = {
        "time": moment.isoformat().replace("+00:00", "Z"),
        "level": "INFO",
        "service": "canvas",
        "instance": "box",
        "event": "room.loaded",
        "room": "lobby",
        "note": "two words",
        "seq": 7,
    }
    local = moment.astimezone().strftime("%H:%M:%S")
    expected = f'{local}.123 canvas    INFO    room.loaded room=lobby note="two words" seq=7'
    assert list(plain().paint("canvas", json.dumps(record))) == [expected]


def test_a_traceback_follows_its_record_line_by_line() -> None:
    record = {"time": "?", "level": "ERROR", "event": "broke", "traceback": "Traceback:\n  File x"}
    lines = list(plain().paint("gateway", json.dumps(record)))
    assert [line.split("gateway   ")[1] for line in lines] == [
        "ERROR   broke",
        "          Traceback:",
        "            File x",
    ]


@pytest.mark.parametrize("line", ["hello", "{not json", '{"a":1}', "{" * 5_000, '[{"event":"x"}]'])
def test_what_is_no_record_passes_through_under_its_name(line: str) -> None:
    assert list(plain().paint("presence", line)) == [f"12:00:00.005 presence  {line}"]


def test_a_line_cannot_steer_the_terminal() -> None:
    record = json.dumps({"time": "?", "level": "INFO", "event": "x", "text": "\x1b[2Jboo\nfake"})
    for line in (record, "raw \x1b[2Jboo\rfake"):
        (shown,) = plain().paint("gateway", line)
        assert not any(ord(character) < 32 for character in shown)


def test_the_nats_server_speaks_like_the_rest_and_its_banner_is_left_out() -> None:
    head = "[77] 2026/11/24 03:50:22.345879"
    assert list(plain().paint("nats", f"{head} [INF] Server is ready")) == [
        "03:50:22.345 nats      INFO    Server is ready"
    ]
    assert list(plain().paint("nats", f"{head} [WRN] Slow")) == ["03:50:22.345 nats      WARNING Slow"]
    for decoration in ("  Version:  2.15.1", "", "---- JETSTREAM ----", " _ | | __|_   _/", "| || | _|  | |"):
        assert not list(plain().paint("nats", f"{head} [INF] {decoration}"))


def test_colours_are_for_terminals_and_each_program_has_its_own() -> None:
    painter = Painter(lambda: NOON, colour=True)
    first, second = (next(painter.paint(name, "x")) for name in ("canvas", "gateway"))
    assert "\x1b[32mcanvas" in first
    assert "\x1b[34mgateway" in second


def test_lines_are_whole_however_the_bytes_come() -> None:
    splitter = Splitter(limit=8)
    pieces = [
        line for data in (b"a", b"b\nc\r\n\n", b"12345678", b"9ab", b"\nend") for line in splitter.feed(data)
    ]
    assert [*pieces, *splitter.close()] == ["ab", "c", "", "12345678", "9ab", "end"]


def test_a_reader_that_stands_still_does_not_stop_us() -> None:
    reading, writing = os.pipe()
    screen = Screen(writing, {})
    began = time.monotonic()
    for number in range(3_000):
        screen.print(f"{number:04} " + "x" * 95)
    assert time.monotonic() - began < 5
    got = b""
    while len(got) < 3_000 * 101:
        got += os.read(reading, 1 << 20)
        screen.flush()
    assert [int(line[:4]) for line in got.splitlines()] == list(range(3_000))
    os.close(reading)
    screen.print("nobody listens: no error")
    os.close(writing)


# Children


async def test_a_child_that_dies_comes_back_after_growing_pauses(journal: Journal) -> None:
    ends: list[int] = []
    child = Child(
        python("x", "print('up'); raise SystemExit(3)"),
        journal.say,
        lambda _, status: ends.append(status),
        pause=0.01,
    )
    child.start()
    await journal.says("x  up", 3)
    await child.stop(5)
    assert set(ends) == {3}
    pauses = [line.rpartition(" again in ")[2] for line in journal.lines if "again" in line]
    assert pauses[:2] == ["0.01 s", "0.02 s"]


async def test_a_killed_child_is_told_by_its_signal_and_started_again(journal: Journal) -> None:
    child = Child(
        python("x", "print('up'); import time; time.sleep(60)"), journal.say, lambda *_: None, pause=0.01
    )
    child.start()
    await journal.says("x  up")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await journal.says("x  up", 2)
    assert any("killed by SIGKILL" in line for line in journal.lines)
    await child.stop(5)
    assert child.pid is None


async def test_a_stubborn_child_is_killed_with_all_that_it_started(journal: Journal) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('pid', other.pid); time.sleep(60)"
    )
    child = Child(python("x", code), journal.say, lambda *_: None)
    child.start()
    await journal.says("pid")
    other = int(journal.lines[0].split()[-1])
    began = time.monotonic()
    await child.stop(0.3)
    assert time.monotonic() - began < 5
    await journal.until(lambda: gone(other))


async def test_a_program_that_does_not_exist_is_said_and_tried_again(journal: Journal) -> None:
    child = Child(Program("x", ("/does/not/exist",), {}), journal.say, lambda *_: None, pause=0.01)
    child.start()
    await journal.says("cannot be started", 2)
    await child.stop(1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills orphans by itself")
def test_nothing_outlives_a_runner_that_is_killed() -> None:
    code = """
import asyncio, os, sys
from roundtable.common.localrun.child import Child, Program
async def main():
    sleeper = Program("x", (sys.executable, "-uc", "import os, time; print(os.getpid()); time.sleep(60)"), os.environ)
    child = Child(sleeper, lambda name, level, text: print(text, flush=True), lambda *_: None)
    child.start()
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert not gone(pid)
        process.kill()
    deadline = time.monotonic() + 5
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Plan


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**ENVIRONMENT, "ROUNDTABLE_DATA_DIR": str(tmp_path / "data")}


def test_the_secret_is_made_once_is_private_and_reaches_the_gateway_alone(
    environment: dict[str, str],
) -> None:
    plan = Plan(environment)
    secret = plan.gateway().environment["ROUNDTABLE_JWT_SECRET"]
    assert len(secret) >= 43
    assert plan.gateway().environment["ROUNDTABLE_JWT_SECRET"] == secret
    assert stat.S_IMODE((plan.home / "jwt-secret").stat().st_mode) == 0o600
    for program in (plan.nats(), plan.provision(), *plan.services()):
        assert secret not in program.environment.values()


@pytest.mark.parametrize("variable", ["ROUNDTABLE_JWT_SECRET", "ROUNDTABLE_JWKS"])
def test_a_given_key_is_used_instead(environment: dict[str, str], variable: str) -> None:
    plan = Plan({**environment, variable: "given"})
    assert plan.gateway().environment[variable] == "given"
    assert not (plan.home / "jwt-secret").exists()
    assert "given" not in plan.services()[0].environment.get("ROUNDTABLE_JWT_SECRET", "")


def test_development_is_the_default_and_can_be_changed(environment: dict[str, str]) -> None:
    gateway = Plan(environment).gateway().environment
    assert (gateway["ROUNDTABLE_DEV_AUTH"], gateway["ROUNDTABLE_ENVIRONMENT"]) == ("1", "development")


@pytest.mark.parametrize("variable", ["ROUNDTABLE_HTTP_PORT", "ROUNDTABLE_NATS_PORT"])
def test_a_port_in_use_is_told_with_the_variable_that_moves_it(
    environment: dict[str, str], variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refused, match=rf"port {port} is in use.*{variable} moves it"):
            Plan({**environment, variable: str(port)})


def test_two_runs_never_share_a_store(environment: dict[str, str]) -> None:
    first = Plan(environment)
    with pytest.raises(Refused, match="ROUNDTABLE_DATA_DIR"):
        Plan(environment)
    first.release()
    Plan(environment).release()


def test_wrong_settings_are_told_by_name(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="ROUNDTABLE_NATS_PORT"):
        Plan({**environment, "ROUNDTABLE_NATS_PORT": "70000"})


# The whole, with a real nats-server and fake services

SERVICE = "import signal; print('serving'); signal.pause()"
GATEWAY = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["ROUNDTABLE_HTTP_PORT"])), Handler).serve_forever()
"""


class FakePlan(Plan):
    """The plan with small programs instead of ours; provisioning does nothing."""

    code: dict[str, str]

    def _module(self, name: str, module: str, **settings: str) -> Program:
        program = super()._module(name, module, **settings)
        code = self.code.get(name, {"gateway": GATEWAY, "provision": ""}.get(name, SERVICE))
        return program._replace(command=(sys.executable, "-uc", code))


@pytest.fixture
def plan(environment: dict[str, str]) -> Iterator[FakePlan]:
    plan = FakePlan(environment)
    plan.code = {}
    yield plan
    plan.release()


async def test_the_whole_starts_survives_kills_and_ends_in_order(plan: FakePlan, journal: Journal) -> None:
    ready: list[float] = []
    runner = Runner(plan, journal.say, ready.append)
    running = asyncio.create_task(runner.run())
    await journal.until(lambda: ready)
    first = runner.pids()
    assert list(first) == ["gateway", "canvas", "presence", "activity", "nats"]
    for name in ("nats", "canvas"):
        os.kill(first[name], signal.SIGKILL)
    await journal.until(
        lambda: len(runner.pids()) == 5 and not set(first.values()) <= set(runner.pids().values())
    )
    await journal.says("Server is ready", 2)
    last = runner.pids()
    runner.stop()
    async with asyncio.timeout(12):
        assert await running == 0
    assert all(gone(pid) for pid in {**first, **last}.values())
    assert runner.pids() == {}


async def test_asked_twice_it_ends_at_once(plan: FakePlan, journal: Journal) -> None:
    plan.code["canvas"] = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf')\nwhile True: signal.pause()"
    )
    ready: list[float] = []
    runner = Runner(plan, journal.say, ready.append)
    running = asyncio.create_task(runner.run())
    await journal.until(lambda: ready)
    await journal.says("deaf")
    runner.stop()
    await journal.until(lambda: "presence" not in runner.pids())
    began = time.monotonic()
    runner.stop()
    assert await running == 0
    assert time.monotonic() - began < 3


async def test_a_service_that_refuses_its_settings_ends_the_start(plan: FakePlan, journal: Journal) -> None:
    plan.code["presence"] = "raise SystemExit(2)"
    plan.code["gateway"] = SERVICE
    runner = Runner(plan, journal.say, lambda _: None)
    async with asyncio.timeout(15):
        assert await runner.run() == 2
    assert any("presence refuses its settings" in line for line in journal.lines)


async def test_what_is_never_ready_is_given_up_with_a_reason(
    plan: FakePlan, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "READY_WITHIN", 1.5)
    plan.code["gateway"] = GATEWAY.replace("200", "503").replace("{}", "canvas: no answer")
    async with asyncio.timeout(15):
        assert await Runner(plan, journal.say, lambda _: None).run() == 1
    assert any("not ready within 1.5 s: canvas: no answer" in line for line in journal.lines)
