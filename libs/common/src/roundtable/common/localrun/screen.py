"""Shell layer: standard output that never makes its writer wait. Knows nothing of what it shows."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

_KEPT: Final = 10_000
_ATOMIC: Final = 512
"""Bytes: what any pipe takes in one piece once it is writable (POSIX's least PIPE_BUF)."""


class Screen:
    """Lines to a file descriptor. While its reader stands still they wait, the latest 10,000; a reader gone is no error.

    A runner that blocked on its log could no longer be stopped by a signal.
    """

    def __init__(self, descriptor: int, environment: Mapping[str, str]) -> None:
        self.colour: Final = (
            os.isatty(descriptor) and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        )
        self._descriptor: Final = descriptor
        self._waiting: Final[deque[bytes]] = deque(maxlen=_KEPT)
        self._begun = b""
        self._gone = False

    def print(self, *lines: str) -> None:
        self._waiting.extend(line.encode(errors="replace") + b"\n" for line in lines)
        self.flush()

    def flush(self, within: float = 0.0) -> None:
        """Writes what the reader takes now, or within those seconds."""
        deadline = time.monotonic() + within
        with contextlib.suppress(OSError):
            while not self._gone and (self._begun or self._waiting):
                patience = max(0.0, deadline - time.monotonic())
                if not select.select((), (self._descriptor,), (), patience)[1]:
                    return
                self._begun = self._begun or self._waiting.popleft()
                self._begun = self._begun[os.write(self._descriptor, self._begun[:_ATOMIC]) :]
            return
        self._gone = True
