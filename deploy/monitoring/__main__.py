"""Writes dashboards and what Kubernetes needs of them and of the rules: `python -m deploy.monitoring [--check]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import gateway, jetstream, kubernetes, overview, services
from .parts import Board, Query, dashboard

HOME: Final = Path(__file__).parents[1]
DASHBOARDS: Final = "grafana/dashboards"
COMPONENT: Final = "k8s/components/monitoring"
BOARDS: Final[tuple[Board, ...]] = (overview.BOARD, gateway.BOARD, *services.BOARDS, jetstream.BOARD)


def files() -> dict[str, str]:
    """Path under `deploy/` to content of every generated file."""
    boards = {
        f"{board.uid.removeprefix('roundtable-')}.json": json.dumps(
            dashboard(board).build(), cls=JSONEncoder, indent=1, sort_keys=True
        )
        for board in BOARDS
    }
    return {
        **{f"{DASHBOARDS}/{name}": text + "\n" for name, text in boards.items()},
        f"{COMPONENT}/dashboards.yaml": kubernetes.dashboards(boards),
        f"{COMPONENT}/prometheusrule.yaml": kubernetes.rule(
            sorted((HOME / "prometheus/rules").glob("*.yml"))
        ),
    }


def queries() -> list[tuple[str, Query]]:
    """Every query, with the dashboard and panel in which it stands."""
    return [
        (f"{board.title}: {panel.title}", query)
        for board in BOARDS
        for group in board.groups
        for panel in group.panels
        for query in panel.queries
    ]


def differences() -> list[str]:
    """Files that are not what the code says, those that it does not know among them."""
    made = files()
    stray = {f"{DASHBOARDS}/{path.name}" for path in (HOME / DASHBOARDS).glob("*")} - made.keys()
    return sorted(stray | {path for path, text in made.items() if _text(HOME / path) != text})


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def main(arguments: list[str]) -> int:
    found = differences()
    if arguments == ["--check"]:
        print(*(f"{path} is not what `make monitoring` writes" for path in found), sep="\n")
        return 1 if found else 0
    made = files()
    for path in found:
        (HOME / path).parent.mkdir(parents=True, exist_ok=True)
        if path in made:
            (HOME / path).write_text(made[path])
        else:
            (HOME / path).unlink()
        print(f"monitoring: wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
