"""Transport layer: long poll, by httpx; what we say goes up the lane. Knows no retries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import httpx

from ..errors import RoundtableError
from ..messages import MEDIA, Event, Message, Place, Unreadable, decode_error, decode_poll
from .lane import Lane
from .pipe import Outgoing, Pipe, Way, first_end

WAIT: Final = 25
"""Seconds that the server may keep a poll."""


class PollPipe(Pipe):
    def __init__(self, way: Way, hear: Callable[[Message], None]) -> None:
        super().__init__(way, hear)
        self._lane = Lane(way, hear)
        self._place = way.cursor
        self._connection: str | None = None

    def send(self, outgoing: Outgoing) -> None:
        self._lane.send(outgoing)

    async def run(self) -> None:
        await first_end(self._read(), self._lane.run())

    async def _read(self) -> None:
        timeout = httpx.Timeout(10, read=WAIT + 15)
        while True:
            way = self.way
            response = await way.http().get(
                way.address.of(
                    "/poll", connection=self._connection, cursor=self._place or None, timeout=str(WAIT)
                ),
                headers={**way.headers, "Accept": MEDIA[way.fmt]},
                timeout=timeout,
            )
            if response.status_code != 200:
                raise decode_error(response.content, response.status_code)
            try:
                messages = decode_poll(response.content, way.fmt)
            except Unreadable as error:
                raise RoundtableError(
                    1002, "protocol_error", f"The server's answer cannot be read: {error}"
                ) from None
            for message in messages:
                self._heard(message)

    def _heard(self, message: Message) -> None:
        match message:
            case Event(name="session.welcome"):
                self._connection = message.data.connection_id
                self._lane.open(message.data.connection_id)
            case Place(cursor):
                self._place = cursor
            case _:
                pass
        self.hear(message)
