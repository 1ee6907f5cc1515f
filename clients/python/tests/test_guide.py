"""The guide's examples do what the guide says, against the real system."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Final

import pytest

from roundtable.client import RealtimeClient
from roundtable.common.testing.players import WAIT
from roundtable.common.testing.system import System

HOUSE: Final = Path(__file__).parents[3]
GUIDE: Final = (HOUSE / "docs/clients/python.md").read_text()
(README,) = re.findall(r"^```python\n(.*?)^```$", (HOUSE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PROGRAMS: Final = re.findall(
    r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL
)
(SCRIPT,) = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
ADDRESS: Final = "localhost:8080"


async def run(folder: Path, *words: str) -> tuple[int | None, str, str]:
    programs = Path(sys.executable).parent
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=folder,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(), 8 * WAIT)
    return process.returncode, out.decode(), error.decode()


def at(table: System, room: str, program: str) -> str:
    return program.replace(ADDRESS, f"127.0.0.1:{table.gateway.port}").replace('"lobby"', f'"{room}"')


def test_every_example_says_what_it_prints() -> None:
    assert len(PROGRAMS) == GUIDE.count("```python") >= 5


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
async def test_a_program_prints_what_stands_below_it(
    table: System, room: str, tmp_path: Path, program: str, printed: str
) -> None:
    program = at(table, room, program)
    assert await run(tmp_path, sys.executable, "-c", program) == (0, printed, "")


async def test_the_program_of_the_readme_draws_a_stroke(table: System, room: str, tmp_path: Path) -> None:
    assert await run(tmp_path, sys.executable, "-c", at(table, room, README)) == (0, "", "")
    async with RealtimeClient(f"ws://127.0.0.1:{table.gateway.port}", room=room) as client:
        assert len((await client.request("canvas.state")).operations) == 1


async def test_the_commands_of_the_guide_work(table: System, room: str, tmp_path: Path) -> None:
    script = SCRIPT.replace(ADDRESS, f"127.0.0.1:{table.gateway.port}").replace("lobby", room)
    status, out, error = await run(tmp_path, "bash", "-euo", "pipefail", "-c", script)
    assert (status, error) == (0, "")
    assert '"label":"attack"' in out
    assert os.listdir(tmp_path) == ["canvas.png"]
