"""The page's parts that need no browser, by Node's own runner; in browsers it is tested by `make browser`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from shutil import which

ROOT = Path(__file__).parents[3]


def run(*command: str) -> str:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_pages_parts_work() -> None:
    run("make", "--silent", "clients")
    node = ROOT / ".venv/bin/node"
    output = run(
        str(node) if node.exists() else which("node") or "node",
        "--test",
        "--test-reporter=tap",
        "clients/table/build/parts.test.mjs",
    )
    count = {
        name: int(number) for name, number in re.findall(r"^# (tests|pass) (\d+)$", output, re.MULTILINE)
    }
    assert count["tests"] == count["pass"] > 1, output
