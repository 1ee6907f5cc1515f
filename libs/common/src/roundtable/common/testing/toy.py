"""Testing layer: a domain as small as can be, for tests of the shell around domains. Knows no service of the product.

A room is a list of words. It speaks the canvas's method names, for the shell knows no others:

- `canvas.draw {"words": […]}` puts each at the end, as one event each; `{"after": ms}` lets them wait and come by themselves.
- `canvas.clear` takes all away, and refuses (`forbidden`) a spectator.
- `canvas.undo` takes the last word away; where there is none it causes nothing.
- `canvas.redo {"at": STEP}` fails at that step (`prepare`, `decide`, `evolve`, `record`, `answer`), as a faulty domain would.
- `canvas.state` tells the words; `{"at": "query"}` fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from roundtable.common.decider import Decider, Recorded, RoomView
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, ReplyMessage, Service, StoredEvent


class Put(Struct, frozen=True):
    words: tuple[str, ...]
    due_at: int = 0


class Come(Struct, frozen=True):
    """What waits until then comes."""

    at: int


class Clear(Struct, frozen=True):
    role: str


class TakeBack(Struct, frozen=True):
    pass


class Fail(Struct, frozen=True):
    at: str


Command = Put | Come | Clear | TakeBack | Fail


class WordPut(Struct, frozen=True):
    word: str
    number: int
    """Words in the room after it."""


class WordPostponed(Struct, frozen=True):
    word: str
    due_at: int


class WordTaken(Struct, frozen=True):
    word: str


class Cleared(Struct, frozen=True):
    number: int


class Failed(Struct, frozen=True):
    at: str


Event = WordPut | WordPostponed | WordTaken | Cleared | Failed
METHODS: Final[dict[str, type[Event]]] = {
    "canvas.draw": WordPut,
    "canvas.later": WordPostponed,
    "canvas.undo": WordTaken,
    "canvas.clear": Cleared,
    "canvas.redo": Failed,
}
_METHOD_OF: Final = {kind: method for method, kind in METHODS.items()}


class State(Struct):
    words: list[str] = field(default_factory=list)
    waiting: list[tuple[int, str]] = field(default_factory=list)


class Answer(Struct, frozen=True):
    """What the command did: its events, one line each."""

    did: tuple[str, ...]


class Words(Struct, frozen=True):
    words: tuple[str, ...]


class _Params(Struct):
    words: tuple[str, ...] = ()
    after: int | None = None
    at: str = ""


def decide(state: State, command: Command) -> Sequence[Event]:
    match command:
        case Put(words, 0):
            return [WordPut(word, len(state.words) + number) for number, word in enumerate(words, 1)]
        case Put(words, due_at):
            return [WordPostponed(word, due_at) for word in words]
        case Come(at):
            due = [word for due_at, word in state.waiting if due_at <= at]
            return [WordPut(word, len(state.words) + number) for number, word in enumerate(due, 1)]
        case Clear("spectator"):
            raise Refusal("forbidden", "A spectator clears nothing")
        case Clear():
            return [Cleared(len(state.words))]
        case TakeBack():
            return [WordTaken(state.words[-1])] if state.words else []
        case Fail(at):
            if at == "decide":
                raise ZeroDivisionError(at)
            return [Failed(at)]


def evolve(state: State, event: Event) -> State:
    match event:
        case WordPut(word):
            state.words.append(word)
            state.waiting = [each for each in state.waiting if each[1] != word]
        case WordPostponed(word, due_at):
            state.waiting.append((due_at, word))
        case WordTaken():
            state.words.pop()
        case Cleared():
            state.words.clear()
        case Failed(at):
            if at == "evolve":
                state.words.append("a word of a state that never was")
                raise ZeroDivisionError(at)
    return state


class ToyDomain:
    """Implements `Domain`."""

    service: Service = "canvas"
    decider: Decider[State, Command, Event] = Decider(State, decide, evolve)

    def prepare(self, message: CommandMessage, now: int) -> Command:
        params = msgspec.json.decode(message.params, type=_Params)
        match message.method:
            case "canvas.draw":
                return Put(params.words, 0 if params.after is None else now + params.after)
            case "canvas.clear":
                return Clear(message.role)
            case "canvas.undo":
                return TakeBack()
            case "canvas.redo":
                if params.at == "prepare":
                    raise ZeroDivisionError(params.at)
                return Fail(params.at)
            case method:
                raise Refusal("unknown_method", method)

    def record(self, event: Event) -> Recorded:
        if event == Failed("record"):
            raise ZeroDivisionError("record")
        return Recorded(_METHOD_OF[type(event)], event)

    def recall(self, stored: StoredEvent) -> Event | None:
        kind = METHODS.get(stored.method)
        return None if kind is None else msgspec.json.decode(stored.data, type=kind)

    def answer(self, state: State, message: CommandMessage, events: Sequence[Event]) -> Struct | None:
        if Failed("answer") in events:
            raise ZeroDivisionError("answer")
        return Answer(tuple(map(repr, events)))

    async def query(self, room: RoomView[State], message: CommandMessage) -> Struct:
        if msgspec.json.decode(message.params, type=_Params).at == "query":
            raise ZeroDivisionError("query")
        return Words(tuple(room.state.words))

    def dump(self, state: State) -> Any:
        return state.words, state.waiting

    def restore(self, dumped: Any) -> State:
        return msgspec.convert({"words": dumped[0], "waiting": dumped[1]}, State)

    def due(self, state: State, now: int) -> tuple[Sequence[Command], int | None]:
        wake = min((due_at for due_at, _ in state.waiting), default=None)
        return ([Come(now)] if wake is not None and wake <= now else ()), wake

    def occupied(self, state: State) -> bool | None:
        return None


def command(method: str, id: str = "", user: str = "ada", **params: Any) -> CommandMessage:  # noqa: A002
    encoded = msgspec.Raw(msgspec.json.encode(params))
    return CommandMessage(f"canvas.{method}", encoded, user, user.title(), "player", id)


def put(*words: str, id: str = "", user: str = "ada") -> CommandMessage:  # noqa: A002
    return command("draw", id, user, words=words)


def did(reply: ReplyMessage) -> tuple[str, ...]:
    """Of an answer to a command. Raises the refusal, if it is one."""
    return msgspec.json.decode(_data(reply), type=Answer).did


def words(reply: ReplyMessage) -> list[str]:
    """Of an answer to `canvas.state`. Raises the refusal, if it is one."""
    return list(msgspec.json.decode(_data(reply), type=Words).words)


def _data(reply: ReplyMessage) -> msgspec.Raw:
    if reply.error is not msgspec.UNSET:
        raise Refusal.of(reply.error)
    assert isinstance(reply.data, msgspec.Raw)
    return reply.data


def _main() -> None:
    """A whole service, as the product's are: `python -m roundtable.common.testing.toy`."""
    from roundtable.common.config import Settings
    from roundtable.common.domain_service import Stop, start_domain
    from roundtable.common.runtime import Process, main

    async def start(process: Process[Settings]) -> Stop:
        return await start_domain(process, ToyDomain())

    main("canvas", Settings, start)


if __name__ == "__main__":
    _main()
