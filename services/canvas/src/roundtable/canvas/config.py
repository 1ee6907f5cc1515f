"""Shell layer: the canvas service's settings; see `roundtable.common.config` for how they are read."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from roundtable.common.config import Settings


class CanvasSettings(Settings, frozen=True, kw_only=True):
    max_operations: Annotated[int, Meta(ge=1, le=1_000_000, description="Visible operations of one room")] = (
        50_000
    )
