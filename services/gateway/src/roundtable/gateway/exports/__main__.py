"""Program layer: draws one canvas: `canvas.state` as JSON comes in, SVG or PNG goes out. Knows nothing of the gateway.

It is a process of its own, so that it takes no time from connections, may be ended when it takes too long, and may run out of
memory alone.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Final

from .sheet import Marks

MEMORY: Final = 384 << 20
"""Bytes. The largest canvas there may be takes little more than half of it."""


def main(kind: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(10)  # people who play go first
    marks = Marks(sys.stdin.buffer.read())
    out = sys.stdout.buffer
    if kind == "svg":
        from .svg import svg

        out.writelines(piece.encode() for piece in svg(marks))
    else:
        from .png import png

        out.write(png(marks))


if __name__ == "__main__":
    main(sys.argv[1])
