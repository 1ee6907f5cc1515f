"""Shell layer: `python -m roundtable.common.localrun`, what `make run` executes. Knows how to tell a person what runs."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import datetime
from typing import Final

from ..config import ConfigError
from .lines import Painter
from .plan import Plan, Refused
from .runner import Runner
from .screen import Screen

WELCOME: Final = """
  Roundtable is ready ({seconds:.1f} s).

    page      http://{address}/?room=lobby
    wscat     npx wscat -c 'ws://{address}/?room=lobby'
              > {{"type":"request","id":"1","method":"presence.list","params":{{}}}}
    console   of the browser, on that page:
              ws = new WebSocket("ws://{address}/?room=lobby"); ws.onmessage = e => console.log(e.data)
    data      {data} (kept; `make clean DATA=1` throws it away)
    stop      Ctrl-C, or: kill {pid}
"""


def main() -> int:
    screen = Screen(sys.stdout.fileno(), os.environ)
    painter = Painter(lambda: datetime.now().astimezone(), colour=screen.colour)

    def say(name: str, level: str, text: str) -> None:
        screen.print(*((painter.say(name, level, text),) if level else painter.paint(name, text)))

    def ready(seconds: float) -> None:
        text = WELCOME.format(seconds=seconds, address=plan.address, data=plan.data, pid=os.getpid())
        screen.print(*text.splitlines(), "")

    try:
        plan = Plan(os.environ)
    except (ConfigError, Refused) as error:
        print(f"make run: {error}", file=sys.stderr)
        return 2
    status = asyncio.run(Runner(plan, say, ready).run())
    say("run", "INFO", f"stopped; {plan.data} keeps what happened")
    screen.flush(within=1.0)
    return status


if __name__ == "__main__":
    sys.exit(main())
