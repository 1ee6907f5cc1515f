"""Shell: keeps the measured programs apart: who runs on which core, and a network of our own. Linux; elsewhere it says no."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_NEW_USER: Final = 0x10000000
_NEW_NET: Final = 0x40000000
_GET_FLAGS: Final = 0x8913
_SET_FLAGS: Final = 0x8914
_UP: Final = 1


def own_network() -> str:
    """Moves this process, and so its children, into a network namespace with a loopback alone.

    Rules that container tools put before the host's loopback cost a fifth there. Returns what was done, in words. Must
    be called before any thread is started.
    """
    if sys.platform != "linux":
        return "the host's network"
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_NET if user == 0 else _NEW_USER | _NEW_NET):
        return f"the host's network (no own one: {os.strerror(ctypes.get_errno())})"
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", request)[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))
    return "a network namespace of its own, loopback"


class Cores:
    """Servers on the first core that we may use, the generator on the second; all on all where there is but one."""

    def __init__(self) -> None:
        self.pins = False
        if sys.platform == "linux":
            self._all = os.sched_getaffinity(0)
            self.pins = len(self._all) > 1

    @contextlib.contextmanager
    def _pinned(self, number: int) -> Iterator[None]:
        """Processes that are started in the block stay there."""
        if sys.platform != "linux" or not self.pins:
            yield
            return
        os.sched_setaffinity(0, {sorted(self._all)[number]})
        try:
            yield
        finally:
            os.sched_setaffinity(0, self._all)

    def servers(self) -> contextlib.AbstractContextManager[None]:
        return self._pinned(0)

    def generator(self) -> contextlib.AbstractContextManager[None]:
        return self._pinned(1)


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes so far, all threads (in clock ticks, mostly of 10 ms)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
