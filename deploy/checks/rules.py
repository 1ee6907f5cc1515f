"""Prometheus's and Alertmanager's configuration, the rules, and the rules' own tests

Each alert has a test in which it fires and one in which it is quiet, a section in the runbook, and asks only for metrics that
there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from . import metrics
from .debian import tool
from .programs import run

FOLDER: Final = Path("deploy/prometheus")
RUNBOOK: Final = "docs/runbook.md"
SEVERITIES: Final = frozenset({"critical", "warning", "none"})


def check(root: Path) -> list[str]:
    return [*tools(root), *texts(root)]


def texts(root: Path) -> list[str]:
    """What no tool of Prometheus's looks at."""
    rules = load(root)
    return [
        *_tested(root / FOLDER, [rule["alert"] for rule in rules if "alert" in rule]),
        *(fault for rule in rules if "alert" in rule for fault in _described(root, rule)),
        *_asked(root, rules),
        *_partitions(root),
    ]


def load(root: Path) -> list[dict[str, Any]]:
    """All rules, alerts and recordings."""
    return [
        rule
        for path in sorted((root / FOLDER / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def recorded(rules: list[dict[str, Any]]) -> frozenset[str]:
    return frozenset(rule["record"] for rule in rules if "record" in rule)


def tools(root: Path) -> Iterator[str]:
    """What Prometheus's and Alertmanager's own tools say."""
    folder = root / FOLDER
    tests = sorted(map(str, folder.glob("tests/*.yml")))
    for command in (
        [tool("promtool"), "check", "config", str(folder / "prometheus.yml")],
        [tool("promtool"), "test", "rules", *tests],
        [tool("amtool"), "check-config", str(folder / "alertmanager.yml")],
    ):
        done = run(*command)
        if done.returncode:
            yield f"{' '.join(command[1:3])}: {(done.stdout + done.stderr).strip()}"


def _tested(folder: Path, alerts: list[str]) -> Iterator[str]:
    fires, quiet = set[str](), set[str]()
    for path in folder.glob("tests/*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for question in test["promql_expr_test"]:
                [name] = re.findall(r'alertname="(\w+)"', question["expr"])
                (fires if question["exp_samples"] else quiet).add(name)
    for name in alerts:
        if name not in fires:
            yield f"{name}: no test in which it fires"
        if name not in quiet and name != "RoundtableWatchdog":
            yield f"{name}: no test in which it is quiet"


def _described(root: Path, rule: dict[str, Any]) -> Iterator[str]:
    name, notes = rule["alert"], rule.get("annotations", {})
    if rule.get("labels", {}).get("severity") not in SEVERITIES:
        yield f"{name}: its severity is none of {', '.join(sorted(SEVERITIES))}"
    for note in ("summary", "description", "runbook_url"):
        if not notes.get(note):
            yield f"{name}: no {note}"
    page, _, anchor = notes.get("runbook_url", "").partition("#")
    if page != RUNBOOK or anchor not in anchors(root):
        yield f"{name}: there is no {page}#{anchor}"


def anchors(root: Path) -> frozenset[str]:
    """Of the runbook's headings, as they are made by those who show Markdown."""
    path = root / RUNBOOK
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if path.exists() else []
    return frozenset(
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    )


def _asked(root: Path, rules: list[dict[str, Any]]) -> Iterator[str]:
    known = metrics.known(root, recorded(rules))
    for rule in rules:
        for name in sorted(metrics.asked(rule["expr"]) - known):
            yield f"{rule.get('alert') or rule['record']}: there is no metric {name}"


def _partitions(root: Path) -> Iterator[str]:
    """One rule has a number that is the code's."""
    code = (root / "libs/common/src/roundtable/common/sharding.py").read_text()
    [partitions] = re.findall(r"^PARTITIONS: Final = (\d+)", code, re.MULTILINE)
    [rule] = [each for each in load(root) if each.get("alert") == "RoundtablePartitionsWithoutOwner"]
    if not rule["expr"].endswith(f"< {partitions}"):
        yield f"RoundtablePartitionsWithoutOwner: there are {partitions} partitions"
