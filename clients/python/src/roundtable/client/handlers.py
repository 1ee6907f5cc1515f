"""Shell layer: who wants to hear of which event: handlers, and iterators. Knows no connection."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from .messages import Event

log: Final = logging.getLogger("roundtable.client")

Handler = Callable[[Any, Event], Awaitable[None] | None]
"""Called with the event's data, and the event. A coroutine runs as a task."""

ALIASES: Final = {name: f"canvas.{name}" for name in ("draw", "clear", "undo", "redo")}
OWN: Final = frozenset(
    {"connected", "disconnected", "reconnecting", "error", "latency", "transport", "offline", "closed"}
)
"""What the client tells of itself. `heartbeat` comes from the server."""


class Overflow(Exception):
    """An iterator was not read for so long that too many events waited for it."""


class Handlers:
    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = {}
        self._iterators: set[Events] = set()
        self._tasks: set[asyncio.Future[None]] = set()

    def on(self, name: str, handler: Handler) -> None:
        self._handlers.setdefault(ALIASES.get(name, name), []).append(handler)

    def off(self, name: str, handler: Handler) -> None:
        """Nothing happens if it was not there."""
        handlers = self._handlers.get(ALIASES.get(name, name), [])
        if handler in handlers:
            handlers.remove(handler)

    def events(self, names: tuple[str, ...], limit: int) -> Events:
        iterator = Events(
            self._iterators.discard, frozenset(ALIASES.get(each, each) for each in names), limit
        )
        self._iterators.add(iterator)
        return iterator

    def tell(self, event: Event) -> None:
        names = [event.name, "*"] if event.name in OWN else [event.name, "message", "*"]
        for name in names:
            for handler in tuple(self._handlers.get(name, ())):
                self._call(handler, event)
        for iterator in tuple(self._iterators):
            iterator.put(event)

    def end(self) -> None:
        """No more events: iterators end."""
        for iterator in tuple(self._iterators):
            iterator.end()

    def _call(self, handler: Handler, event: Event) -> None:
        try:
            result = handler(event.data, event)
        except Exception:
            log.exception("a handler of %r failed", event.name)
            return
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(result)
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a handler failed", exc_info=task.exception())


class Events:
    """`async for event in client.events()`: from its making until the client is closed."""

    def __init__(self, forget: Callable[[Events], None], names: frozenset[str], limit: int) -> None:
        self._forget = forget
        self._names = names
        self._limit = limit
        self._waiting: deque[Event] = deque()
        self._overflown = False
        self._ended = False
        self._news = asyncio.Event()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        """Raises `Overflow` after the last event that had a place."""
        while not self._waiting:
            if self._overflown:
                raise Overflow(f"more than {self._limit} events waited to be read")
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()

    def put(self, event: Event) -> None:
        wanted = event.name in self._names if self._names else event.name not in OWN
        if not wanted or self._ended:
            return
        if len(self._waiting) >= self._limit:
            self._overflown = True
            self.end()
        else:
            self._waiting.append(event)
            self._news.set()

    def end(self) -> None:
        self._ended = True
        self._forget(self)
        self._news.set()
