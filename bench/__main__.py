"""`python -m bench [ROW…] [--repeats N]`: runs the rows, prints them; all rows together write `bench/results.md`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from pathlib import Path

from . import growth, machine
from .bench import Bench
from .contestants import Peers
from .figures import Section
from .generator import HERE, Generator, Skipped, build
from .isolation import Cores, own_network
from .rows import ALL

RESULTS = HERE / "results.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    rows = "; ".join(f"{row.name}: {row.about}" for row in ALL)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{rows}. None: all")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    asked = parser.parse_args()
    unknown = set(asked.rows) - {row.name for row in ALL}
    if unknown:
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in ALL)}")
    try:
        binary = build()
    except Skipped as why:
        print(f"SKIPPED, all of it: {why}", file=sys.stderr)
        return 0
    peers = Peers()
    skipped = peers.install()
    for reason in skipped:
        print(f"SKIPPED: {reason}", file=sys.stderr)
    lines = machine.describe(own_network(), peers.versions)
    if machine.busy():
        lines.append(
            "**the machine was busy with something else: these figures serve to find mistakes, nothing more**"
        )
    print("\n".join(f"- {line}" for line in lines))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="roundtable-bench-", ignore_cleanup_errors=True) as folder:
        cores = Cores()
        bench = Bench(
            Path(folder), cores, Generator(binary, cores, Path(folder)), peers, asked.repeats, skipped
        )
        if not cores.pins:
            bench.skip("pinning: there is but one core, so the generator takes part of the servers' time")
        sections = asyncio.run(_measure(bench, asked.rows))
    lines.append(f"repeats: {asked.repeats}; the whole took {time.monotonic() - began:.0f} s")
    lines += [f"**skipped**: {what}" for what in bench.skipped]
    text = _page(lines, sections)
    print(f"\n{text}")
    if asked.rows:
        print(f"(only a run of all rows writes {RESULTS.name})")
    else:
        RESULTS.write_text(text)
        growth.main([])
    return 0


async def _measure(bench: Bench, names: list[str]) -> list[tuple[str, Section]]:
    sections: list[tuple[str, Section]] = []
    for row in ALL:
        if names and row.name not in names:
            continue
        print(f"{row.name}: {row.about}", file=sys.stderr, flush=True)
        try:
            sections.append((row.name, await row.measure(bench)))
        except Skipped as why:
            bench.skip(str(why))
        except Exception as error:  # noqa: BLE001 - the other rows have nothing to do with it
            traceback.print_exc()
            bench.skip(f"{row.name} **broke off**: {error!r}")
    return sections


def _page(lines: list[str], sections: list[tuple[str, Section]]) -> str:
    parts = [
        "# Results",
        (
            "Written by `make bench`; [how to read it](README.md). Where there are three figures: least – median – most of"
            " the runs."
        ),
        "\n".join(f"- {line}" for line in lines),
        *(section.markdown(f".venv/bin/python -m bench {name}") for name, section in sections),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
