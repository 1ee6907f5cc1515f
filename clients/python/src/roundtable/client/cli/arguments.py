"""Command layer: what can be typed. Knows nothing of what is done with it."""

from __future__ import annotations

import argparse
import os
from typing import Final, get_args

from roundtable.common.schema.activity import Visibility
from roundtable.common.schema.basics import ROLES
from roundtable.common.schema.canvas import TOOLS

URL: Final = "http://localhost:8080"
FILES: Final = ("canvas.json", "canvas.svg", "canvas.png", "activity.jsonl")
_EXITS: Final = """\
Exit status: 0 done, 1 the server refused, 2 not understood, 3 the server cannot be reached, 130 interrupted.

ROUNDTABLE_URL and ROUNDTABLE_TOKEN stand in for --url and --token. On a development server no token is needed.
"""


def point(text: str) -> dict[str, float]:
    x, comma, y = text.partition(",")
    try:
        if not comma:
            raise ValueError
        return {"x": float(x), "y": float(y)}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no point like 10,20") from None


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "roundtable",
        description="A shared table from the terminal: watch it, roll, draw, take it home.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument(
        "--url",
        default=os.environ.get("ROUNDTABLE_URL") or URL,
        help=f"the gateway's address (default: ROUNDTABLE_URL, or {URL})",
    )
    seat = argparse.ArgumentParser(add_help=False, parents=[server])
    seat.add_argument(
        "--token",
        default=os.environ.get("ROUNDTABLE_TOKEN") or None,
        help="who you are (default: ROUNDTABLE_TOKEN, where others on this machine cannot read it)",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, text: str, parent: argparse.ArgumentParser, example: str
    ) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"For example:\n  {example}",
            parents=[parent],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    token = command(
        "token",
        "get a token from a development server, and print it",
        server,
        'export ROUNDTABLE_TOKEN="$(roundtable token --name Ann --role gm)"',
    )
    token.add_argument("--name", default=os.environ.get("USER") or "Somebody", help="how you are called")
    token.add_argument("--user", help="your user id (default: a new one)")
    token.add_argument("--room", help="the only room that it is good for (default: all)")
    token.add_argument("--role", choices=ROLES, default="player")
    token.add_argument("--ttl", type=int, metavar="SECONDS", help="how long it is good")

    tail = command("tail", "show what happens in a room, until Ctrl-C", seat, "roundtable tail lobby")
    tail.add_argument("room", metavar="ROOM")
    tail.add_argument(
        "--since", metavar="CURSOR", default="", help="begin after this place, not with the latest 50"
    )
    tail.add_argument(
        "--json", action="store_true", help="each event as a line of JSON, with its cursor as `id`"
    )
    tail.add_argument("--color", choices=("auto", "always", "never"), default="auto")

    draw = command(
        "draw",
        "draw one thing, and print its id",
        seat,
        "roundtable draw lobby pen 10,10 200,120 --color '#c33'\n  roundtable draw lobby circle -- -50,0 -50,40",
    )
    draw.add_argument("room", metavar="ROOM")
    draw.add_argument("tool", choices=[tool for tools in TOOLS.values() for tool in tools])
    draw.add_argument(
        "points",
        metavar="X,Y",
        type=point,
        nargs="+",
        help="the points of a line; a rectangle's corners; a circle's centre and rim",
    )
    draw.add_argument("--color", default="#1e90ff", help="#rgb, #rrggbb or #rrggbbaa (default: %(default)s)")
    draw.add_argument("--size", type=float, default=3, help="width of the line (default: %(default)s)")

    roll = command(
        "roll", "roll dice before everybody", seat, "roundtable roll lobby '2d20kh1 + 5' --label attack"
    )
    roll.add_argument("room", metavar="ROOM")
    roll.add_argument("expression", metavar="EXPRESSION", help="as 3d6, d%%, 4d6kh3, 1d20+5")
    roll.add_argument("--label", help="what it is for")
    roll.add_argument("--visibility", choices=get_args(Visibility), default="public", help="who sees it")

    export = command(
        "export",
        "take a room's canvas or feed home as a file",
        seat,
        "roundtable export lobby canvas.png -o inn.png",
    )
    export.add_argument("room", metavar="ROOM")
    export.add_argument("file", choices=FILES, metavar="FILE", help=", ".join(FILES))
    export.add_argument(
        "-o", "--output", metavar="PATH", default="-", help="where to (default: standard output)"
    )
    return top
