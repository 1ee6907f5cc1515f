"""The client's own tests, file by file, by Node's runner; those that need a table get a real system with gateways to spare."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roundtable.common.testing.system import SECRET, Program, system

ROOT = Path(__file__).parents[3]
FILES = sorted(Path(__file__).parent.glob("*.test.ts"))
WITHIN = 240.0
"""Seconds that a file may take on a busy machine."""


def node() -> str:
    """As `make clients` finds it."""
    found = shutil.which("node")
    if found:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.strip("v \n").partition(".")[0]) >= 20:
            return found
    return str(ROOT / ".venv/bin/node")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def built() -> Path:
    """The tests as Node can run them, and what they test as people get it."""
    result = subprocess.run(
        ["make", "--silent", "clients"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return ROOT / "clients/typescript/build"


@pytest.fixture(scope="session")
async def table(anyio_backend: str) -> AsyncIterator[dict[str, str]]:
    """What the tests are told of it."""
    async with system(gateways=4, settings={"DEV_AUTH": "1", "ENVIRONMENT": "development"}) as running:
        *immortal, first, second = running.of("gateway")
        strict = await running.add("gateway", MESSAGES_PER_MINUTE="120")
        await strict.ready()

        def mortal(gateway: Program) -> str:
            return f"{gateway.port}:{gateway.pid}"

        yield {
            "ROUNDTABLE_TEST_GATEWAYS": ",".join(str(gateway.port) for gateway in immortal),
            "ROUNDTABLE_TEST_MORTALS": f"{mortal(first)},{mortal(second)}",
            "ROUNDTABLE_TEST_STRICT": str(strict.port),
            "ROUNDTABLE_TEST_SECRET": SECRET,
        }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".test.ts"))
async def test_the_typescript_client(file: Path, built: Path, table: dict[str, str]) -> None:
    script = built / f"{file.name.removesuffix('.ts')}.mjs"
    process = await asyncio.create_subprocess_exec(
        node(),
        "--test",
        "--test-reporter=tap",
        str(script),
        cwd=ROOT / "clients",
        env=os.environ | table,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(WITHIN):
            output = (await process.communicate())[0].decode(errors="replace")
    except TimeoutError:
        process.kill()
        raise
    count = {
        name: int(number) for name, number in re.findall(r"^# (tests|pass) (\d+)$", output, re.MULTILINE)
    }
    failed = "\n".join(re.findall(r"^ *not ok .*?^ *\.\.\.$", output, re.MULTILINE | re.DOTALL))
    assert process.returncode == 0, failed or output
    assert count["tests"] == count["pass"] > 1, output
