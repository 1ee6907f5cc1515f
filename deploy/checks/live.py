"""Every expression has data on a live Prometheus over the running system, and real faults raise their alerts

The rules are the real ones; only their `for:` is two seconds, and what is scraped is scraped each second. Expressions that
need a fault to have data are listed with the reason: those of dashboards beside them (`rare`), those of alerts here.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.live.prometheus import Prometheus, Sample, prometheus, until
from deploy.monitoring import __main__ as monitoring

from . import metrics, rules
from .debian import tool
from .result import Broken

WINDOW: Final = "20s"
"""In place of Grafana's `$__rate_interval`."""
PATIENCE: Final = 60.0
"""Seconds for the load to have touched everything, and for an alert to fire or to end."""
RARE: Final = {
    'roundtable_gateway_requests_total{outcome="rate_limited"}': "needs somebody over the limit",
    'roundtable_gateway_age_seconds{what="keys"}': "needs a JWKS",
}
"""Series that alerts look at and that are not there while all is well."""
SLOWNESS: Final = frozenset(
    f"Roundtable{what}"
    for what in ("RequestsSlow", "EventsLate", "AppendsSlow", "LogUnavailable", "CpuFull", "LoopLate")
)
FAULTS: Final[tuple[tuple[str, str, dict[str, str], str | None], ...]] = (
    ("kill", "RoundtableServiceDown", {"job": "canvas"}, "start"),
    ("freeze", "RoundtableNatsDisconnected", {}, ""),
    ("", "RoundtableLogWithoutLeader", {"job": "presence"}, "thaw"),
    ("strangers", "RoundtableRecoveriesRefused", {}, None),
)
"""What is done, which alert it must raise with which labels, and what is done then; None: the alert's window is too long to
see its end.
"""


def check(root: Path) -> list[str]:
    python = root / ".venv" / "bin" / "python"
    with tempfile.TemporaryDirectory(prefix="roundtable-prometheus-") as home:
        system = subprocess.Popen(
            [str(python), "-m", "deploy.live.table"],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert system.stdout is not None
            line = system.stdout.readline()
            if not line:
                raise Broken("the system did not start")
            files = sorted((root / rules.FOLDER / "rules").glob("*.yml"))
            with prometheus(tool("prometheus"), Path(home), files, json.loads(line)) as running:
                return [*_expressions(root, running), *_calm(running), *_faults(running, system)]
        finally:
            assert system.stdin is not None
            system.stdin.close()
            try:
                system.wait(60)
            except subprocess.TimeoutExpired:
                system.kill()


def _expressions(root: Path, running: Prometheus) -> Iterator[str]:
    waiting: dict[str, str] = {}
    for where, query in monitoring.queries():
        if not query.rare:
            waiting.setdefault(_filled(query.expr), where)
    for rule in rules.load(root):
        if "record" in rule:
            if not rule["record"].startswith("roundtable:jetstream"):
                waiting.setdefault(rule["record"], "recording rule")
            continue
        for selector in metrics.selectors(rule["expr"]):
            if selector not in RARE:
                waiting.setdefault(selector, rule["alert"])

    def all_there() -> bool:
        for expr in list(waiting):
            if _has_data(running.query(expr)):
                del waiting[expr]
        return not waiting

    until(all_there, PATIENCE)
    for expr, where in waiting.items():
        yield f"{where}: no data for {expr}"


def _filled(expr: str) -> str:
    """As Grafana asks it."""
    return expr.replace("$__rate_interval", WINDOW).replace("$instance", ".*")


def _has_data(samples: list[Sample]) -> bool:
    return any(not math.isnan(float(sample["value"][1])) for sample in samples)


def _calm(running: Prometheus) -> Iterator[str]:
    """While all is well one alert fires, and it always does. How quick this machine is, is no matter of ours."""
    firing = running.firing()
    for name in firing.keys() - {"RoundtableWatchdog"} - SLOWNESS:
        yield f"{name} fires though all is well: {firing[name].get('description')}"
    if "RoundtableWatchdog" not in firing:
        yield "RoundtableWatchdog does not fire"


def _faults(running: Prometheus, system: subprocess.Popen[str]) -> Iterator[str]:
    def tell(word: str) -> None:
        assert system.stdin is not None
        assert system.stdout is not None
        system.stdin.write(word + "\n")
        system.stdin.flush()
        if system.stdout.readline().strip() != "done":
            raise Broken(f"the system did not carry out `{word}`")

    for word, name, labels, remedy in FAULTS:
        if word:
            tell(word)

        def raised(name: str = name, labels: dict[str, str] = labels) -> bool:
            found = running.firing().get(name, {})
            return bool(found) and labels.items() <= found.items()

        if not until(raised, PATIENCE):
            yield f"{word or 'the same'}: {name} did not fire; {', '.join(running.firing())} did"
        elif re.search(r"\{\{|<no value>|error", running.firing()[name]["description"]):
            yield f"{name}: its description is {running.firing()[name]['description']}"
        if remedy:
            tell(remedy)
            if not until(lambda name=name: name not in running.firing(), PATIENCE):  # type: ignore[misc]
                yield f"{remedy}: {name} still fires"
