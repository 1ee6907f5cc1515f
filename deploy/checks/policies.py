"""The usual policies of safe pods hold (checkov), but for the exceptions in deploy/k8s/.checkov.yaml, each with its reason."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

from .manifests import OVERLAYS, Manifest, render
from .programs import installed, run
from .result import Broken

PASSED_AT_LEAST = 100
"""Fewer, and it has hardly looked."""


def check(root: Path) -> list[str]:
    return faults_of(root, {name: render(root, f"overlays/{name}") for name in OVERLAYS})


def faults_of(root: Path, overlays: dict[str, tuple[Manifest, ...]]) -> list[str]:
    program = installed("bin/checkov")
    with tempfile.TemporaryDirectory(prefix="roundtable-policies-") as folder:
        for name, manifests in overlays.items():
            (Path(folder) / f"{name}.yaml").write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
        done = run(
            program, "--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "--output", "json",
            "--config-file", root / "deploy/k8s/.checkov.yaml", "--directory", folder,
        )  # fmt: skip
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise Broken(f"checkov: {done.stdout[-500:]}{done.stderr[-500:]}") from None
    summary = said.get("summary", said)
    if summary["passed"] < PASSED_AT_LEAST or summary["parsing_errors"]:
        raise Broken(f"checkov has not looked at everything: {summary}")
    return [
        f"{each['file_path'].strip('/')}: {each['resource']}: {each['check_id']} {each['check_name']}"
        for each in said["results"]["failed_checks"]
    ]
