"""Pure layer: log lines as people read them, one colour a program. Knows no processes, no files and no clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

COLOURS: Final = {
    "run": 37,
    "nats": 35,
    "provision": 90,
    "canvas": 32,
    "presence": 36,
    "activity": 33,
    "gateway": 34,
}
"""ANSI colours by program; what is not named here gets a plain one."""

WIDTH: Final = max(map(len, COLOURS))
LEVELS: Final = {"DEBUG": 90, "INFO": 0, "WARNING": 93, "ERROR": 91}
"""Levels in order of weight, with their colours."""

_SAID_ALREADY: Final = frozenset({"time", "level", "service", "instance", "event", "traceback"})
_NATS: Final = re.compile(r"\[\d+] \d{4}/\d\d/\d\d (\d\d:\d\d:\d\d\.\d{3})\d* \[([A-Z]{3})] (.*)\Z")
_NATS_LEVELS: Final = {
    "DBG": "DEBUG",
    "TRC": "DEBUG",
    "INF": "INFO",
    "WRN": "WARNING",
    "ERR": "ERROR",
    "FTL": "ERROR",
}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_PLAIN: Final = re.compile(r"[^\s\"=]+\Z")


class Splitter:
    """Bytes as they come in, whole lines out. A line longer than `limit` bytes comes in pieces."""

    def __init__(self, limit: int = 1 << 16) -> None:
        self._limit: Final = limit
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            yield from self._pieces(line.removesuffix(b"\r"))
        while len(self._rest) > self._limit:
            yield self._rest[: self._limit].decode(errors="replace")
            self._rest = self._rest[self._limit :]

    def close(self) -> Iterator[str]:
        """What came after the last line's end."""
        rest, self._rest = self._rest, b""
        if rest:
            yield from self._pieces(rest)

    def _pieces(self, line: bytes) -> Iterator[str]:
        for start in range(0, len(line) or 1, self._limit):
            yield line[start : start + self._limit].decode(errors="replace")


class Painter:
    """Lines of all programs in one form: `HH:MM:SS.mmm name LEVEL event key=value`, local time.

    Control characters are shown, not sent: what a client typed must not steer the terminal of who reads the log.
    """

    def __init__(self, now: Callable[[], datetime], *, colour: bool) -> None:
        self._now: Final = now
        self._colour: Final = colour

    def paint(self, name: str, line: str) -> Iterator[str]:
        """The lines to print for one line of that program: none for mere decoration, several for a traceback."""
        if not line.strip():
            return
        if line.startswith("{"):
            fields = _object(line)
            if fields is not None:
                yield from self._record(name, fields)
                return
        elif match := _NATS.match(line):
            time, level, text = match.groups()
            if level != "INF" or (text and text[0] not in " -|_"):  # else its banner
                yield self._line(time, name, _NATS_LEVELS.get(level, level), text)
            return
        yield self._line(self._clock(), name, "", line)

    def say(self, name: str, level: str, text: str) -> str:
        """A line of our own about that program."""
        return self._line(self._clock(), name, level, text)

    def _record(self, name: str, fields: dict[str, Any]) -> Iterator[str]:
        try:
            time = datetime.fromisoformat(fields["time"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
        except (KeyError, TypeError, ValueError):
            time = self._clock()
        level, event = str(fields.get("level", "")), str(fields.get("event", ""))
        pairs = [f"{key}={_value(value)}" for key, value in fields.items() if key not in _SAID_ALREADY]
        yield self._line(time, name, level, " ".join([event, *pairs]))
        for line in str(fields.get("traceback", "")).splitlines():
            yield self._line(time, name, level, "  " + line, label="")

    def _line(self, time: str, name: str, level: str, text: str, label: str | None = None) -> str:
        text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
        shown = f"{level if label is None else label:7} " if level else ""
        return " ".join((
            self._in(90, time),
            self._in(COLOURS.get(name, 0), f"{name:{WIDTH}}"),
            self._in(LEVELS.get(level, 0), shown + text),
        ))  # fmt: skip

    def _in(self, colour: int, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour else text

    def _clock(self) -> str:
        return self._now().strftime("%H:%M:%S.%f")[:-3]


def _object(line: str) -> dict[str, Any] | None:
    """The log record that the line is, or None if it is none."""
    try:
        fields = msgspec.json.decode(line.encode(errors="replace"), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
    return fields if "event" in fields else None


def _value(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.match(value):
        return value
    return msgspec.json.encode(value).decode()
