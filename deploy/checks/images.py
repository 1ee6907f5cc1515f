"""The Dockerfiles keep to hadolint's rules, their bases are pinned, and secrets stay out of the build."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .programs import installed, run
from .result import Broken

FROM: Final = re.compile(
    r"^FROM\s+(?:--platform=\S+\s+)?(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE | re.MULTILINE
)


def check(root: Path) -> list[str]:
    files = sorted({*root.glob("Dockerfile*"), *root.glob("deploy/**/Dockerfile*")})
    if not files:
        raise Broken("there is no Dockerfile")
    faults = []
    for file in files:
        name = file.relative_to(root)
        faults += [
            f"{name}: {fault}" for fault in (*_lint(root, file), *_bases(file.read_text(encoding="utf-8")))
        ]
    ignored = root / ".dockerignore"
    lines = ignored.read_text(encoding="utf-8").split() if ignored.exists() else []
    if "*" not in lines and ".env" not in lines:
        faults.append(".dockerignore does not keep .env from the builder")
    return faults


def _lint(root: Path, file: Path) -> list[str]:
    config = root / ".hadolint.yaml"
    options: list[str | Path] = ["--config", config] if config.exists() else []
    done = run(installed("bin/hadolint"), *options, "--format", "json", file)
    try:
        said = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise Broken(f"hadolint: {done.stdout[-500:]}{done.stderr[-500:]}") from None
    return [f"line {each['line']}: {each['code']} {each['message']}" for each in said]


def _bases(text: str) -> Iterator[str]:
    given = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    stages: set[str] = set()
    for asked, stage in FROM.findall(text):
        base = re.sub(r"\$\{?(\w+)\}?", lambda match: given.get(match[1], ""), asked)
        release = base.partition("@")[0].rpartition("/")[2].partition(":")[2]
        if base not in stages | {"scratch"} and release in ("", "latest"):
            yield f"{asked} is whatever it is that day"
        stages.add(stage)
