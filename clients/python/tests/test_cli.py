"""The command `roundtable`, as somebody types it, against the real system."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from PIL import Image

from roundtable.client import RealtimeClient
from roundtable.common.testing.nats import free_port
from roundtable.common.testing.players import WAIT, token
from roundtable.common.testing.system import System

ESCAPE = "\x1b"


class Ran(NamedTuple):
    status: int
    out: bytes
    words: str

    @property
    def text(self) -> str:
        return self.out.decode()


class Terminal:
    """Somebody's environment. Nothing of ours gets in."""

    def __init__(self, system: System, **variables: str) -> None:
        self.environment = {
            "ROUNDTABLE_URL": system.gateway.http,
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
            "PYTHONWARNINGS": "error",
            **variables,
        }

    def with_(self, **variables: str) -> Terminal:
        self.environment |= variables
        return self

    async def start(self, *words: str) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "roundtable.client.cli", *words),
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )

    async def run(self, *words: str) -> Ran:
        process = await self.start(*words)
        out, error = await asyncio.wait_for(process.communicate(), 6 * WAIT)
        assert process.returncode is not None
        assert b"Traceback" not in error, error.decode()
        return Ran(process.returncode, out, error.decode())

    @asynccontextmanager
    async def running(self, *words: str) -> AsyncIterator[Process]:
        process = await self.start(*words)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.fixture
def terminal(table: System) -> Terminal:
    return Terminal(table)


def client(system: System, room: str, user: str = "ann") -> RealtimeClient:
    return RealtimeClient(system.gateway.ws, room=room, token=token(user, room))


async def line_with(process: Process, text: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(4 * WAIT):
        while line := (await process.stdout.readline()).decode():
            if text in line:
                return line.rstrip("\n")
    assert process.stderr is not None
    raise AssertionError(f"ended without {text!r}: {(await process.stderr.read()).decode()}")


async def test_token_prints_a_token_that_is_as_was_asked_for(terminal: Terminal, room: str) -> None:
    ran = await terminal.run(
        "token", "--name", "Ann", "--user", "ann", "--room", room, "--role", "gm", "--ttl", "60"
    )
    assert ran.status == 0
    claims = jwt.decode(ran.text.strip(), options={"verify_signature": False})
    assert (claims["sub"], claims["name"], claims["room"], claims["role"]) == ("ann", "Ann", room, "gm")
    ran = await terminal.with_(ROUNDTABLE_TOKEN=ran.text.strip()).run("roll", room, "2d1+3")
    assert ran.status == 0


async def test_roll_prints_the_roll_and_tells_the_room(terminal: Terminal, table: System, room: str) -> None:
    async with client(table, room) as ann:
        posts = ann.events("activity.post")
        ran = await terminal.run("roll", room, "2d1 + 3", "--label", "attack")
        async with asyncio.timeout(WAIT):
            async for event in posts:
                if event.data.type == "dice_roll":
                    rolled = event.data.data
                    break
    assert (rolled["total"], rolled["label"]) == (5, "attack")
    assert ran == (0, rolled["text"].encode() + b"\n", "")


async def test_draw_prints_the_id_of_what_stands_on_the_canvas_then(
    terminal: Terminal, table: System, room: str
) -> None:
    ran = await terminal.run(
        "draw", room, "circle", "--color", "#c33", "--size", "7", "--", "-50,0.5", "-50,40"
    )
    assert ran.status == 0
    async with client(table, room) as ann:
        (operation,) = (await ann.request("canvas.state")).operations
    assert (operation.id, operation.type, operation.tool) == (ran.text.strip(), "shape", "circle")
    assert (operation.color, operation.size) == ("#c33", 7)
    assert [(each.x, each.y) for each in operation.points] == [(-50, 0.5), (-50, 40)]


async def test_tail_shows_what_happened_and_what_happens(
    terminal: Terminal, table: System, room: str
) -> None:
    async with client(table, room) as ann:
        await ann.request("activity.post", {"type": "chat_message", "data": {"text": "Before you came"}})
        async with terminal.running("tail", room) as process:
            assert "Ann says: Before you came" in await line_with(process, "Before")
            await line_with(process, "Guest")  # sits down: from here on it is live
            evil = f"{ESCAPE}[2J\u202eHello\nNext line\x07"
            await ann.request("activity.post", {"type": "chat_message", "data": {"text": evil}})
            assert (await line_with(process, "Hello")).endswith("Ann says: [2JHello Next line")
            await ann.request("activity.post", {"type": "dice_roll", "data": {"expression": "3d1"}})
            assert "Ann rolls" in await line_with(process, "3d1")
            stroke = {"type": "draw", "tool": "pen", "color": "#c33", "size": 4, "points": [{"x": 1, "y": 2}]}
            await ann.request("canvas.draw", {"operations": [stroke]})
            assert "Ann draws 1 thing: pen" in await line_with(process, "draws")
            await ann.request("canvas.undo")
            await line_with(process, "Ann undoes")


async def test_tail_as_json_has_cursors_from_which_it_goes_on(
    terminal: Terminal, table: System, room: str
) -> None:
    async with client(table, room) as ann:
        async with terminal.running("tail", room, "--json") as process:
            await line_with(process, "activity.snapshot")
            await ann.request("activity.post", {"type": "chat_message", "data": {"text": "one"}})
            event: dict[str, Any] = json.loads(await line_with(process, '"one"'))
            assert (event["method"], event["data"]["username"]) == ("activity.post", "Ann")
        await ann.request("activity.post", {"type": "chat_message", "data": {"text": "two"}})
        async with terminal.running("tail", room, "--json", "--since", event["id"]) as process:
            first = json.loads(await line_with(process, "activity.post"))
            while first["data"]["type"] != "chat_message":
                first = json.loads(await line_with(process, "activity.post"))
            assert first["data"]["data"]["text"] == "two"


@pytest.mark.parametrize("when", ["always", "never", "auto"])
async def test_tail_is_coloured_only_for_eyes(terminal: Terminal, room: str, when: str) -> None:
    async with terminal.running("tail", room, "--color", when) as process:
        assert (ESCAPE in await line_with(process, "by websocket")) == (when == "always")


async def test_ctrl_c_ends_tail_cleanly(terminal: Terminal, room: str) -> None:
    process = await terminal.start("tail", room)
    await line_with(process, "by websocket")
    process.send_signal(signal.SIGINT)
    _, error = await asyncio.wait_for(process.communicate(), 2 * WAIT)
    assert (process.returncode, error) == (130, b"")


async def test_tail_ends_when_nobody_reads_it_any_more(terminal: Terminal, table: System, room: str) -> None:
    read, write = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundtable.client.cli", "tail", room),
        env=terminal.environment,
        stdout=write,
        stderr=PIPE,
    )
    os.close(write)
    await asyncio.to_thread(os.read, read, 1)
    os.close(read)
    async with client(table, room) as ann:
        while process.returncode is None:
            await ann.request("activity.post", {"type": "chat_message", "data": {"text": "still there?"}})
            await asyncio.sleep(0.02)
    assert (await process.communicate())[1] == b""
    assert process.returncode == 0


async def test_tail_says_why_the_server_will_not_have_it(terminal: Terminal, room: str) -> None:
    ran = await terminal.with_(ROUNDTABLE_TOKEN="nonsense").run("tail", room)
    assert ran.status == 1
    assert "[token_invalid]" in ran.words


@pytest.mark.rule("OP4")
async def test_export_writes_each_file(terminal: Terminal, table: System, room: str, tmp_path: Path) -> None:
    assert (
        await terminal.run("draw", room, "pen", "0,0", "100,0", "--color", "#f00", "--size", "20")
    ).status == 0
    path = tmp_path / "picture.png"
    path.write_bytes(b"what stood there before")
    ran = await terminal.run("export", room, "canvas.png", "-o", str(path))
    assert ran == (0, b"", "")
    assert Image.open(path).getpixel((60, 26)) == (255, 0, 0)
    assert os.listdir(tmp_path) == ["picture.png"]
    state = json.loads((await terminal.run("export", room, "canvas.json")).text)
    assert state["operations"][0]["color"] == "#f00"
    assert (await terminal.run("export", room, "canvas.svg")).text.startswith("<svg ")
    lines = (await terminal.run("export", room, "activity.jsonl")).text.splitlines()
    assert "user_joined" in {json.loads(line)["type"] for line in lines}
    png = (await terminal.run("export", room, "canvas.png")).out
    assert Image.open(io.BytesIO(png)).size == (152, 52)


async def test_an_export_that_is_cut_short_leaves_no_file(tmp_path: Path, terminal: Terminal) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    terminal.environment["ROUNDTABLE_URL"] = f"http://127.0.0.1:{port}"
    ran = await terminal.run("export", "inn", "activity.jsonl", "-o", str(tmp_path / "feed"))
    server.close()
    assert ran.status == 3
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["roll", "inn", "2d"], 1, "[invalid_data]"),
        (["export", "inn", "canvas.json", "--token", "nonsense"], 1, "[token_invalid]"),
        (["export", "inn", "canvas.json", "-o", "/nowhere/file"], 1, "/nowhere"),
        (["roll", "no room", "d20"], 2, "is no room"),
        (["roll", "inn", "d20", "--url", "localhost"], 2, "is no address"),
        (["draw", "inn", "pen", "here"], 2, "is no point like 10,20"),
        (["draw", "inn", "circle", "1,1"], 1, "exactly 2 points"),
        (["token", "--room", "no room"], 2, "is no room"),
        (["token", "--ttl", "0"], 1, "[invalid_data]"),
        ([], 2, "COMMAND"),
    ],
)
async def test_what_goes_wrong_is_told_in_words_with_a_status(
    terminal: Terminal, words: list[str], status: int, says: str
) -> None:
    ran = await terminal.run(*words)
    assert ran.status == status
    assert says in ran.words
    assert ran.out == b""


@pytest.mark.parametrize("command", [["roll", "inn", "d20"], ["export", "inn", "canvas.svg"], ["token"]])
async def test_a_server_that_is_not_there_has_a_status_of_its_own(
    terminal: Terminal, command: list[str]
) -> None:
    ran = await terminal.with_(ROUNDTABLE_URL=f"http://127.0.0.1:{free_port()}").run(*command)
    assert ran.status == 3
    assert "cannot reach http://127.0.0.1" in ran.words


@pytest.mark.parametrize("command", ["token", "tail", "draw", "roll", "export"])
async def test_every_command_explains_itself_with_an_example(terminal: Terminal, command: str) -> None:
    ran = await terminal.run(command, "--help")
    assert ran.status == 0
    assert f"roundtable {command}" in ran.text.partition("For example:")[2]
