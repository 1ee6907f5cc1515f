"""Manifests to break: each test changes one thing in a copy, and its check must say so."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.checks.manifests import Manifest, name_of, render

ROOT = Path(__file__).parents[2]

Breaking = Callable[[dict[str, Manifest]], object]


class Overlay:
    """An overlay's objects by kind and name."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._whole = render(ROOT, target)

    def broken(self, breaking: Breaking) -> tuple[Manifest, ...]:
        """The objects after `breaking` has had its way with them: it may change, add or remove."""
        named = {name_of(each): copy.deepcopy(each) for each in self._whole}
        breaking(named)
        return tuple(named.values())

    @property
    def whole(self) -> tuple[Manifest, ...]:
        return self._whole


@pytest.fixture(scope="session")
def production() -> Overlay:
    return Overlay("overlays/production")


@pytest.fixture(scope="session")
def staging() -> Overlay:
    return Overlay("overlays/staging")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of our manifests alone, to break in its files."""
    shutil.copytree(ROOT / "deploy/k8s", tmp_path / "deploy/k8s", ignore=shutil.ignore_patterns("secrets"))
    return tmp_path


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new), encoding="utf-8")
