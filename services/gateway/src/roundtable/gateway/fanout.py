"""Shell layer: the joined writer: who listens in one room, and one `write` to each of them for all that is told at once.

Here is where the gateway's time goes, so the work for each connection is one call, and nothing else grows with their number.

Invariants:
- `tell` writes a batch to every member before it returns: so each gets all batches since its joining, whole, once, in order;
- a member that does not keep up costs the others nothing: it is left out of the writing but for what is stored, and
  comes back when its buffer has drained (RS8);
- one that fails to be written to harms only itself.
Knows no transport, no log and no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from roundtable.common.schema.basics import Role
from roundtable.common.telemetry import log

from .batch import Batch
from .codecs import Codec


class Member(Protocol):
    """A connection to which a room's events are written as they come. It leaves before it ends."""

    codec: Codec
    user: str
    role: Role
    paused: bool
    """Does not keep up."""
    write: Callable[[bytes], None]
    """The transport's own. Never waits; may pause the member."""

    def write_lasting(self, data: bytes) -> None:
        """To a paused member, which misses the rest of what was told: may end it instead."""
        ...


class Fanout:
    """One room's."""

    def __init__(self) -> None:
        self.members: Final[dict[Member, None]] = {}
        self._quick: dict[Codec, dict[Member, Callable[[bytes], None]]] = {}
        self._slow: dict[Member, None] = {}

    def join(self, member: Member) -> None:
        self.members[member] = None
        self.sort(member)

    def leave(self, member: Member) -> None:
        self.members.pop(member, None)
        self._set_aside(member)
        self._slow.pop(member, None)

    def sort(self, member: Member) -> None:
        """Again when it has been paused or goes on."""
        if member not in self.members:
            return
        if member.paused:
            self._set_aside(member)
            self._slow[member] = None
        else:
            self._slow.pop(member, None)
            self._quick.setdefault(member.codec, {})[member] = member.write

    def _set_aside(self, member: Member) -> None:
        group = self._quick.get(member.codec)
        if group is not None:
            group.pop(member, None)
            if not group:
                del self._quick[member.codec]

    def tell(self, batch: Batch) -> int:
        """Returns the bytes that were written. Members may leave or be paused meanwhile."""
        slow = tuple(self._slow)
        users, gm = batch.users, batch.gm
        written = 0
        for codec, group in tuple(self._quick.items()):
            joined = batch.joined(codec)
            shared = joined.shared
            for member, write in tuple(group.items()):
                data = shared
                if member.user in users or (gm and member.role == "gm"):
                    data = joined.own(member.user, member.role)
                    if not data:
                        continue
                try:
                    write(data)
                except Exception as error:  # noqa: BLE001 - the others have nothing to do with it
                    log.exception("write.failed", error=repr(error))
                written += len(data)
        for member in slow:
            member.write_lasting(batch.joined(member.codec).lasting(member.user, member.role))
        return written
