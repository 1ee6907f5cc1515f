"""Pure layer: server-sent events from bytes, as the HTML standard parses them. Knows no network and none of our events."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final, NamedTuple

LARGEST: Final = 8 << 20
"""Characters of one event."""


class StreamEvent(NamedTuple):
    name: str
    data: str
    id: str
    """The last one that was told."""


class TooLarge(ValueError):
    """An event that does not end."""


class EventStreamParser:
    """Bytes in whatever pieces they come. What stands after the last empty line waits for the rest."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._rest = ""
        self._after_return = False
        self._size = 0
        self._name = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[StreamEvent]:
        """Raises `TooLarge`."""
        text = self._decode(chunk)
        if text and self._after_return and text[0] == "\n":
            text = text[1:]  # the second half of a line's end
        if text:
            self._after_return = text[-1] == "\r"
        *lines, self._rest = (self._rest + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        for line in lines:
            event = self._line(line)
            if event is not None:
                yield event
        if self._size + len(self._rest) > LARGEST:
            raise TooLarge(f"an event of more than {LARGEST} characters")

    def _line(self, line: str) -> StreamEvent | None:
        if not line:
            return self._end()
        self._size += len(line)
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case _:
                pass  # a comment, or nothing that we use
        return None

    def _end(self) -> StreamEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return StreamEvent(name, "\n".join(data), self._id) if data else None
