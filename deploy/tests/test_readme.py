"""deploy/README.md knows every check and every component."""

from __future__ import annotations

from deploy.checks.__main__ import modules

from .conftest import ROOT

TEXT = (ROOT / "deploy/README.md").read_text(encoding="utf-8")


def test_every_check_is_told_of() -> None:
    names = [module.__name__.rpartition(".")[2] for module in modules()]
    assert [name for name in names if f"| `{name}` |" not in TEXT] == []


def test_every_component_is_told_of() -> None:
    names = [path.parent.name for path in (ROOT / "deploy/k8s/components").glob("*/kustomization.yaml")]
    assert len(names) >= 9
    assert [name for name in names if f"| `{name}` |" not in TEXT] == []
