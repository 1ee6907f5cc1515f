"""Dashboards and what Kubernetes gets are what their code says, and ask only for metrics that there are"""

from __future__ import annotations

from pathlib import Path

from deploy.monitoring import __main__ as monitoring

from . import metrics, rules


def check(root: Path) -> list[str]:
    known = metrics.known(root, rules.recorded(rules.load(root)))
    return [
        *(f"deploy/{name} is not what `make monitoring` writes" for name in monitoring.differences()),
        *(
            f"{where}: there is no metric {name}"
            for where, query in monitoring.queries()
            for name in sorted(metrics.asked(query.expr) - known)
        ),
    ]
