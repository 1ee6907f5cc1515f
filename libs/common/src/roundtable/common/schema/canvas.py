"""Schema layer: `canvas.*`: the seed's `DrawOperation`, the parameters, the answers and the events (section 5)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from .basics import Input, OperationId, Output, Point, UserId

OperationType = Literal["draw", "erase", "shape"]
Tool = Literal["pen", "eraser", "rectangle", "circle"]
TOOLS: Final[dict[str, tuple[Tool, ...]]] = {
    "draw": ("pen",),
    "erase": ("eraser",),
    "shape": ("rectangle", "circle"),
}

Color = Annotated[str, Meta(pattern=r"^#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})\Z")]
Size = Annotated[float, Meta(gt=0, le=1_000, description="Line width in map units.")]
Points = Annotated[tuple[Point, ...], Meta(min_length=1, max_length=2_000)]


class DrawOperation(Input, frozen=True):
    """The seed's `DrawOperation`, with `id`. From a client `id` and `userId` may be missing; stored, both are there."""

    type: OperationType
    tool: Tool
    points: Points
    color: Color
    size: Size
    user_id: UserId | UnsetType = UNSET
    id: OperationId | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.tool not in TOOLS[self.type]:
            raise ValueError(
                f"`{self.type}` goes with {' or '.join(TOOLS[self.type])}, not with `{self.tool}`"
            )
        if self.type == "shape" and len(self.points) != 2:
            raise ValueError(f"`{self.tool}` needs exactly 2 points, got {len(self.points)}")


class Draw(Input, frozen=True):
    """`canvas.draw`."""

    operations: Annotated[tuple[DrawOperation, ...], Meta(min_length=1, max_length=100)]


class Clear(Input, frozen=True):
    """`canvas.clear`: everything (gm), or one's own."""

    scope: Literal["all", "mine"] = "mine"


class Undo(Input, frozen=True):
    """`canvas.undo`: one's own last command, or (gm) another's."""

    user_id: UserId | UnsetType = UNSET


class Redo(Input, frozen=True):
    """`canvas.redo`."""

    user_id: UserId | UnsetType = UNSET


class State(Input, frozen=True):
    """`canvas.state`: takes no parameters."""


class Preview(Input, frozen=True):
    """`canvas.preview`: live ink; `points` are those new since the last one. It shares its id with the final draw."""

    id: OperationId
    tool: Tool
    color: Color
    size: Size
    points: Points


# Facts: the `data` of events, the same on the wire and in the log.


class StoredOperation(Output, frozen=True, omit_defaults=False):
    """A `DrawOperation` as the server tells it: whole."""

    type: OperationType
    tool: Tool
    points: tuple[Point, ...]
    color: str
    size: float
    user_id: str
    id: str


class Drawn(Output, frozen=True, omit_defaults=False):
    """Event `canvas.draw`."""

    operations: tuple[StoredOperation, ...]


class Cleared(Output, frozen=True, omit_defaults=False):
    """Event `canvas.clear`: `cleared` are the ids that it hid."""

    scope: Literal["all", "mine"]
    user_id: str
    cleared: tuple[str, ...]


class Undone(Output, frozen=True, omit_defaults=False):
    """Event `canvas.undo` of a command of `userId`: `operations` went from sight, `restored` came back to it."""

    user_id: str
    operations: tuple[str, ...]
    restored: tuple[str, ...]


class Redone(Output, frozen=True, omit_defaults=False):
    """Event `canvas.redo` of a command of `userId`: `operations` came back, `hidden` went."""

    user_id: str
    operations: tuple[str, ...]
    hidden: tuple[str, ...]


class PreviewShown(Output, frozen=True, omit_defaults=False):
    user_id: str
    id: str
    tool: Tool
    color: str
    size: float
    points: tuple[Point, ...]


class Previews(Output, frozen=True, omit_defaults=False):
    """Event `canvas.preview`, merged for each room and tick; never stored."""

    previews: tuple[PreviewShown, ...]


# Answers. `cursor` is added by the gateway, which alone knows all three logs.


class DrawAnswer(Output, frozen=True, omit_defaults=False):
    operations: tuple[str, ...]
    cursor: str | UnsetType = UNSET


class ClearAnswer(Output, frozen=True, omit_defaults=False):
    cleared: tuple[str, ...]
    cursor: str | UnsetType = UNSET


class UndoAnswer(Output, frozen=True, omit_defaults=False):
    undone: tuple[str, ...]
    cursor: str | UnsetType = UNSET


class RedoAnswer(Output, frozen=True, omit_defaults=False):
    redone: tuple[str, ...]
    cursor: str | UnsetType = UNSET


class StateAnswer(Output, frozen=True, omit_defaults=False):
    """Visible operations in drawing order."""

    operations: tuple[StoredOperation, ...]
    cursor: str | UnsetType = UNSET


class Snapshot(Output, frozen=True, omit_defaults=False):
    """Event `canvas.snapshot`, in pages of at most 256 KB (CO8)."""

    operations: tuple[StoredOperation, ...]
    more: bool
