"""Program layer: draws one canvas: `canvas.state` as JSON comes in, SVG or PNG goes out. Knows nothing of the gateway.

It is a process of its own, so that it takes no time from connections, may be ended when it takes too long, and may run out of
memory alone.
"""

from __future__ import annotations

import resource
import sys
from typing import Final

from .sheet import marks_of

MEMORY: Final = 1 << 30


def main(kind: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    marks = marks_of(sys.stdin.buffer.read())
    if kind == "svg":
        from .svg import svg as draw
    else:
        from .png import png as draw
    sys.stdout.buffer.write(draw(marks))


if __name__ == "__main__":
    main(sys.argv[1])
