"""The checks of rules and dashboards find what they look for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.checks import metrics, rules
from deploy.monitoring import __main__ as monitoring
from deploy.monitoring import kubernetes

from .conftest import ROOT, replace


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """As much of the project as the rules' check reads, to be broken."""
    for part in (
        "deploy/prometheus",
        "docs/metrics.md",
        "docs/runbook.md",
        "libs/common/src/roundtable/common/sharding.py",
    ):
        source, target = ROOT / part, tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    return tmp_path


Break = Callable[[Path], None]


def alerts(old: str, new: str) -> Break:
    return lambda root: replace(root / "deploy/prometheus/rules/alerts.yml", old, new)


TEXTS: dict[str, tuple[Break, str]] = {
    "an alert without tests": (
        alerts("alert: RoundtableFeedLags", "alert: RoundtableFeedIsBehind"),
        "RoundtableFeedIsBehind: no test in which it fires",
    ),
    "a metric that there is not": (
        alerts("max(roundtable_follow_lag)", "max(roundtable_follow_leg)"),
        "RoundtableFeedLags: there is no metric roundtable_follow_leg",
    ),
    "a section that the runbook has not": (
        lambda root: replace(root / "docs/runbook.md", "### RoundtableFeedLags", "### The feed"),
        "RoundtableFeedLags: there is no docs/runbook.md#roundtablefeedlags",
    ),
    "a severity that nobody routes": (alerts("severity: warning", "severity: hm"), "its severity is none of"),
    "an alert that tells nothing": (
        alerts(
            "description: 'This {{ $labels.job }} has no connection to NATS and can do nothing.'",
            "description: ''",
        ),
        "RoundtableNatsDisconnected: no description",
    ),
    "another number of partitions": (
        lambda root: replace(
            root / "libs/common/src/roundtable/common/sharding.py",
            "PARTITIONS: Final = 32",
            "PARTITIONS: Final = 64",
        ),
        "there are 64 partitions",
    ),
}
TOOLS: dict[str, tuple[Break, str]] = {
    "a threshold that a test knows otherwise": (
        alerts("roundtable:jetstream_storage:ratio > 0.8", "roundtable:jetstream_storage:ratio > 0.9"),
        "FAILED",
    ),
    "an alert that fires always": (
        alerts("roundtable_nats_connected == 0", "roundtable_nats_connected >= 0"),
        "FAILED",
    ),
    "an expression that is none": (alerts("roundtable_nats_connected == 0", "sum(("), "parse"),
    "a configuration that Prometheus does not take": (
        lambda root: replace(
            root / "deploy/prometheus/prometheus.yml", "scrape_interval: 15s", "scrape_interval: soon"
        ),
        "check config",
    ),
    "a receiver that Alertmanager does not know": (
        lambda root: replace(
            root / "deploy/prometheus/alertmanager.yml", "receiver: pager", "receiver: page"
        ),
        "check-config",
    ),
}


def test_our_own_rules_are_well(watched: Path) -> None:
    assert rules.check(watched) == []


@pytest.mark.parametrize("what", TEXTS)
def test_what_is_wrong_with_a_rule_is_found(watched: Path, what: str) -> None:
    breaking, said = TEXTS[what]
    breaking(watched)
    faults = rules.texts(watched)
    assert [fault for fault in faults if said in fault], faults


@pytest.mark.parametrize("what", TOOLS)
def test_what_the_tools_find_is_told(watched: Path, what: str) -> None:
    breaking, said = TOOLS[what]
    breaking(watched)
    faults = list(rules.tools(watched))
    assert [fault for fault in faults if said in fault], faults


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ("sum by (job) (rate(a_total[5m])) / on (job) b{c=\"d\"} > 0.1 and e:f:g5m", {"a_total", "b", "e:f:g5m"}),
        ("absent(up{job=\"x\"}) or vector(0)", {"up"}),
        ("histogram_quantile(0.99, sum by (le, job) (rate(h_bucket{i=~\"$instance\"}[$__rate_interval])))", {"h_bucket"}),
        ("x unless ignoring (state) y offset 5m", {"x", "y"}),
    ],
)  # fmt: skip
def test_the_series_of_an_expression_are_read(expr: str, names: set[str]) -> None:
    assert metrics.asked(expr) == names


def test_a_selector_is_a_name_with_its_labels() -> None:
    found = metrics.selectors('sum(rate(a_total{b="c"}[5m])) / sum by (d) (e) > 2')
    assert found == ['a_total{b="c"}', "e"]


def test_a_dashboard_that_was_changed_by_hand_or_is_left_over_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(
        ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets", "node_modules")
    )
    monkeypatch.setattr(monitoring, "HOME", tmp_path / "deploy")
    assert monitoring.differences() == []
    folder = tmp_path / "deploy/grafana/dashboards"
    replace(folder / "gateway.json", "Roundtable: gateway", "My gateway")
    (folder / "old.json").write_text("{}")
    assert monitoring.differences() == ["grafana/dashboards/gateway.json", "grafana/dashboards/old.json"]
    assert monitoring.main([]) == 0
    assert monitoring.differences() == []


def test_every_panel_says_what_it_tells_and_every_query_has_a_name_of_its_own() -> None:
    for board in monitoring.BOARDS:
        for group in board.groups:
            for panel in group.panels:
                assert panel.about, panel.title
                legends = [query.legend for query in panel.queries]
                assert len(set(legends)) == len(legends), panel.title
            titles = [panel.title for panel in group.panels]
            assert len(set(titles)) == len(titles), group.title


def test_the_rules_for_kubernetes_hold_every_rule() -> None:
    files = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
    names = re.findall(r"- (?:alert|record): (\S+)", "".join(path.read_text() for path in files))
    assert re.findall(r"- (?:alert|record): (\S+)", kubernetes.rule(files)) == sorted(names, key=names.index)
    assert len(names) == len(set(names))
