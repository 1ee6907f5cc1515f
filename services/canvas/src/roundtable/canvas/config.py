"""Shell layer: the canvas service's settings; see `roundtable.common.config` for how they are read."""

from __future__ import annotations

from roundtable.common.config import Settings


class CanvasSettings(Settings, frozen=True, kw_only=True):
    """Those that all services share are enough."""
