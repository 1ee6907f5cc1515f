"""Pure layer: a room's events as lines for a terminal. Knows no terminal, no connection, no clock.

What people typed may hold anything: nothing but visible characters of it is ever printed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import UNSET

from roundtable.common.schema import activity, canvas, presence
from roundtable.common.schema.session import Welcome

from ..messages import Event

PLAIN: Final = 0
BOLD, DIM = 1, 2
RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN = range(31, 37)
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Controls, which move the cursor or more; formats, which turn the direction of what follows; and their like."""


def visible(text: str) -> str:
    """On one line, without what is not to be seen."""
    shown = "".join(
        " " if character in "\n\t" else character
        for character in text
        if character in "\n\t" or unicodedata.category(character) not in _HIDDEN
    )
    return " ".join(shown.split())


class Feed:
    """Knows people's names, as far as it was told. `style(text, code)` colours, `clock(ms)` tells a time."""

    def __init__(self, style: Callable[[str, int], str], clock: Callable[[int], str]) -> None:
        self._style = style
        self._clock = clock
        self._names: dict[str, str] = {}

    def lines(self, event: Event) -> Iterator[str]:
        match event.data:
            case Welcome() as welcome:
                how = "back, with all that was missed" if welcome.recovered else f"as {welcome.role}"
                text = f"{visible(welcome.username)} in {welcome.room}, {how}, by {welcome.transport}"
                yield self._style(f"— {text} —", DIM)
            case activity.Snapshot(activities=past):
                yield from (self._activity(each) for each in past)
            case activity.Activity() as each:
                yield self._activity(each)
            case presence.Snapshot(presence=people):
                self._names |= {each.user_id: each.username for each in people}
            case presence.PresenceData() as person:
                self._names[person.user_id] = person.username
                if person.status == "away":
                    yield self._line(event.timestamp, self._of(person.user_id), "is away", DIM)
            case canvas.Drawn(operations=drawn) if drawn:
                what = (
                    f"draws {_count(len(drawn), 'thing')}: {', '.join(sorted({each.tool for each in drawn}))}"
                )
                yield self._line(event.timestamp, self._of(drawn[0].user_id), what, CYAN)
            case canvas.Cleared(scope=scope, user_id=user, cleared=gone):
                whose = "the canvas" if scope == "all" else "their drawing"
                yield self._line(event.timestamp, self._of(user), f"clears {whose} ({len(gone)})", CYAN)
            case canvas.Undone(user_id=user):
                yield self._line(event.timestamp, self._of(user), "undoes", CYAN)
            case canvas.Redone(user_id=user):
                yield self._line(event.timestamp, self._of(user), "redoes", CYAN)
            case _:
                pass

    def _of(self, user: str) -> str:
        return self._names.get(user, user)

    def _line(self, at: int, who: str, what: str, color: int) -> str:
        name = self._style(visible(who), BOLD)
        return f"{self._style(self._clock(at), DIM)}  {name} {self._style(visible(what), color)}"

    def _activity(self, each: activity.Activity) -> str:
        self._names[each.user_id] = each.username
        data = each.data if isinstance(each.data, dict) else {}
        secret = f" ({each.visibility})" if each.visibility not in (UNSET, "public") else ""
        what, color = f"{each.type}", PLAIN
        match each.type:
            case "chat_message":
                what = f"says: {data.get('text', '')}"
                if each.to is not UNSET:
                    what, color = (
                        f"whispers to {', '.join(map(self._of, each.to))}: {data.get('text', '')}",
                        MAGENTA,
                    )
            case "dice_roll":
                label = f"{data['label']}: " if data.get("label") else ""
                result = f"{data['text']}" if "text" in data else f"{data.get('expression', '')}, unseen"
                what, color = f"rolls{secret} {label}{result}", YELLOW
            case "turn_changed":
                turn = f", round {data['round']}" if "round" in data else ""
                what, color = f"gives the turn to {data.get('current', '')}{turn}", BLUE
            case "note_edited":
                what, color = f"edits the note {data.get('title') or data.get('noteId', '')}", BLUE
            case "map_updated":
                what, color = f"changes the map {data.get('mapId', '')}", BLUE
            case "user_joined":
                what, color = "sits down", GREEN
            case "user_left":
                what, color = "leaves", RED
        return self._line(each.timestamp, each.username, what, color)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
