"""Transport layer: server-sent events over HTTP, by httpx; what we say goes up the lane. Knows no retries."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from ..errors import LOST, RoundtableError
from ..event_stream import EventStreamParser, TooLarge
from ..messages import Event, Failure, Message, Unreadable, decode_error, decode_stream
from .lane import Lane
from .pipe import Outgoing, Pipe, Way, first_end


class EventStreamPipe(Pipe):
    def __init__(self, way: Way, hear: Callable[[Message], None]) -> None:
        super().__init__(way, hear)
        self._lane = Lane(way, hear)

    def send(self, outgoing: Outgoing) -> None:
        self._lane.send(outgoing)

    async def run(self) -> None:
        await first_end(self._read(), self._lane.run())

    async def _read(self) -> None:
        way, parser = self.way, EventStreamParser()
        headers = {**way.headers, "Accept": "text/event-stream"}
        if way.cursor:
            headers["Last-Event-ID"] = way.cursor
        # That nothing comes for a long time is not the HTTP library's affair: `core` listens to heartbeats.
        timeout = httpx.Timeout(10, read=None)
        async with way.http().stream(
            "GET", way.address.of("/sse"), headers=headers, timeout=timeout
        ) as response:
            if response.status_code != 200:
                raise decode_error(await response.aread(), response.status_code)
            try:
                async for chunk in response.aiter_bytes():
                    for event in parser.feed(chunk):
                        self._heard(decode_stream(event.name, event.data))
            except (Unreadable, TooLarge) as error:
                raise RoundtableError(
                    1002, "protocol_error", f"The server's event cannot be read: {error}"
                ) from None
        raise RoundtableError(LOST, "", "The stream ended")

    def _heard(self, message: Message) -> None:
        if isinstance(message, Failure) and not message.id:
            raise message.error  # the stream's end
        if isinstance(message, Event) and message.name == "session.welcome":
            self._lane.open(message.data.connection_id)
        self.hear(message)
