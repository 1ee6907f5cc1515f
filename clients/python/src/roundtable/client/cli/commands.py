"""Command layer: what each command does, and what its end is called. Knows no retries and no wire: the client does."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import httpx
import msgspec

from roundtable.common.schema.basics import is_room
from roundtable.common.schema.canvas import TOOLS
from roundtable.common.schema.session import Tokens

from ..address import Address, address_of
from ..client import RealtimeClient
from ..errors import LOST, RoundtableError, Unreachable
from ..messages import Event, decode_error
from .arguments import parser
from .feed import Feed, visible

REFUSED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
WAIT: Final = 30.0
"""Seconds for an answer."""
HASTE: Final[dict[str, Any]] = {"max_reconnect_attempts": 2, "reconnect_delay": 0.5}
"""Somebody sits there and waits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status. What went wrong stands on standard error, in words."""
    options = parser().parse_args(arguments)
    try:
        room = getattr(options, "room", None)
        if room is not None and not is_room(room):
            raise ValueError(f"{room!r} is no room: its name is 1 to 64 letters, digits, `_` and `-`")
        address = address_of(options.url)
    except ValueError as error:
        return _complain(str(error), USAGE)
    try:
        return asyncio.run(COMMANDS[options.command](options, address))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has read enough. What Python would still write at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Unreachable, httpx.HTTPError) as error:
        text = getattr(error, "message", "") or str(error) or type(error).__name__
        return _complain(f"cannot reach {address.http}: {text}", UNREACHABLE)
    except RoundtableError as error:
        if error.code == LOST:
            return _complain(f"cannot reach {address.http}: {error.message}", UNREACHABLE)
        wait = f" (wait {error.retry_after:g} s)" if error.retry_after else ""
        return _complain(f"{error.message}{wait} [{error.reason}]", REFUSED)
    except OSError as error:
        return _complain(str(error), REFUSED)


def _complain(text: str, status: int) -> int:
    print(f"roundtable: {visible(text)}", file=sys.stderr)
    return status


def _client(options: argparse.Namespace, **more: Any) -> RealtimeClient:
    return RealtimeClient(options.url, room=options.room, token=options.token, **{**HASTE, **more})


async def _token(options: argparse.Namespace, address: Address) -> int:
    said = {"username": options.name, "role": options.role}
    more = {"userId": options.user, "room": options.room, "ttl": options.ttl}
    said |= {name: value for name, value in more.items() if value is not None}
    async with httpx.AsyncClient(verify=address.http.startswith("https:"), timeout=WAIT) as http:
        answer = await http.post(f"{address.http}/auth/token", json=said)
    if not answer.is_success:
        raise decode_error(answer.content, answer.status_code)
    print(msgspec.json.decode(answer.content, type=Tokens).token)
    return 0


async def _tail(options: argparse.Namespace, _: Address) -> int:
    colored = options.color == "always" or (
        options.color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    )

    def style(text: str, code: int) -> str:
        return f"\033[{code}m{text}\033[0m" if colored and code and text else text

    def clock(ms: int) -> str:
        return time.strftime("%H:%M:%S", time.localtime(ms / 1000))

    def notice(error: RoundtableError, _: Event) -> None:
        if error.reason != "bye":  # that is ourselves, at the end
            print(f"roundtable: {visible(error.message)}", file=sys.stderr, flush=True)

    feed = Feed(style, clock)
    client = _client(options, cursor=options.since)
    client.on("disconnected", notice)
    client.on("offline", notice)
    ends: list[RoundtableError] = []
    client.on("closed", lambda error, _: ends.append(error))
    events = client.events(limit=100_000)
    async with client:
        async for event in events:
            for line in [_as_json(event)] if options.json else feed.lines(event):
                print(line, flush=True)
        raise ends[0]  # not by us: the server will not have us any more


def _as_json(event: Event) -> str:
    said = {"method": event.name, "id": event.id or None, "timestamp": event.timestamp, "data": event.data}
    return msgspec.json.encode({name: value for name, value in said.items() if value is not None}).decode()


async def _draw(options: argparse.Namespace, _: Address) -> int:
    operation = {
        "type": next(kind for kind, tools in TOOLS.items() if options.tool in tools),
        "tool": options.tool,
        "points": options.points,
        "color": options.color,
        "size": options.size,
    }
    async with _client(options) as client:
        answer = await client.request("canvas.draw", {"operations": [operation]}, timeout=WAIT)
    print(*map(visible, answer.operations))
    return 0


async def _roll(options: argparse.Namespace, _: Address) -> int:
    data = {"expression": options.expression}
    if options.label is not None:
        data["label"] = options.label
    params = {"type": "dice_roll", "data": data, "visibility": options.visibility}
    async with _client(options) as client:
        rolled = (await client.request("activity.post", params, timeout=WAIT)).data
    print(visible(rolled["text"]) if "text" in rolled else "rolled, and only the gm sees what")
    return 0


async def _export(options: argparse.Namespace, address: Address) -> int:
    headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
    if options.output == "-" and options.file.endswith(".png") and sys.stdout.isatty():
        return _complain("a picture is nothing for a terminal: name a file by -o", USAGE)
    async with (
        httpx.AsyncClient(verify=address.http.startswith("https:"), timeout=2 * WAIT) as http,
        http.stream("GET", address.export(options.room, options.file), headers=headers) as answer,
    ):
        if not answer.is_success:
            raise decode_error(await answer.aread(), answer.status_code)
        if options.output == "-":
            async for chunk in answer.aiter_bytes():
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return 0
        with _whole(Path(options.output)) as file:
            async for chunk in answer.aiter_bytes():
                file.write(chunk)
    return 0


@contextmanager
def _whole(target: Path) -> Iterator[IO[bytes]]:
    """A file that is there when all of it is; until then what stood there before stays."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        made = Path(file.name)
        try:
            yield file
            file.close()
            made.chmod(0o666 & ~_umask())
            made.replace(target)
        except BaseException:
            made.unlink(missing_ok=True)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


COMMANDS: Final[dict[str, Callable[[argparse.Namespace, Address], Coroutine[Any, Any, int]]]] = {
    "token": _token,
    "tail": _tail,
    "draw": _draw,
    "roll": _roll,
    "export": _export,
}
