"""Pure layer: what a service must give to the shell: a decider, and the projection of its facts to wire and log.

The pattern is Jérémie Chassaing's decider: `decide(state, command) -> events`, `evolve(state, event) -> state`. Both are
deterministic: time, ids and dice come in with the command. `evolve` may change the state it was given and return it; the
shell never uses the old one again (after a refused append it loads the room anew).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from .schema.log import Audience, CommandMessage, Service, StoredEvent

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
C = TypeVar("C")
E = TypeVar("E", bound=Struct)


class Decider(NamedTuple, Generic[S, C, E]):
    initial: Callable[[], S]
    decide: Callable[[S, C], Sequence[E]]
    """The facts that the command causes, perhaps none. Raises `Refusal` and changes nothing when it may not be."""
    evolve: Callable[[S, E], S]


class Recorded(NamedTuple):
    """A fact as the log keeps it and clients are told it."""

    method: str
    data: Struct
    audience: Audience | None = None


class Domain(Protocol[S, C, E]):
    """One service's part; `command_handler` is the shell around it. All methods but `prepare` and `query` are pure."""

    service: Service
    decider: Decider[S, C, E]

    def prepare(self, message: CommandMessage, now: int) -> C:
        """The command, with all that `decide` may not get itself: `now` (ms), new ids, dice. Raises `Refusal`."""
        ...

    def record(self, event: E) -> Recorded: ...

    def recall(self, stored: StoredEvent) -> E | None:
        """The fact again; None for one of a newer version, which is then skipped."""
        ...

    def answer(self, state: S, message: CommandMessage, events: Sequence[E]) -> Struct | None:
        """The response's `data`, from the facts that the command caused: now, or when it is repeated."""
        ...

    async def query(self, room: RoomView[S], message: CommandMessage) -> Struct:
        """The answer to a query on the current state. Raises `Refusal`."""
        ...

    def dump(self, state: S) -> Any:
        """The state as MessagePack can carry it: the snapshot. `restore(dump(s))` behaves as `s` in every way."""
        ...

    def restore(self, dumped: Any) -> S: ...

    def due(self, state: S, now: int) -> tuple[Sequence[C], int | None]:
        """Commands whose time has come, and when (ms) to ask again; None: nothing waits."""
        ...

    def occupied(self, state: S) -> bool | None:
        """For the directory of rooms in which somebody is (presence); None where there is none."""
        ...


class RoomView(Protocol[S_co]):
    """What a query sees of a room."""

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> S_co: ...

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[StoredEvent]]]:
        """Stored messages of the room after that sequence, oldest first: `(sequence, events)`."""
        ...
