"""The check of the compose file finds what is broken."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.checks import compose
from deploy.checks.result import Broken

from .conftest import ROOT

Services = dict[str, dict[str, Any]]

BROKEN: dict[str, tuple[Callable[[Services], object], str]] = {
    "a key that is none": (lambda all_: all_["nats"].update(helthcheck={}), "additional properties"),
    "a program that is missing": (lambda all_: all_.pop("canvas"), "no service canvas"),
    "an image of the day": (lambda all_: all_["grafana"].update(image="grafana/grafana"), "that day"),
    "no health check": (lambda all_: all_["nats"].pop("healthcheck"), "nats has no health check"),
    "a variable that is not set": (
        lambda all_: all_["nats"]["environment"].pop("NATS_SYS_PASSWORD"),
        "nats does not set NATS_SYS_PASSWORD, which users.conf asks for",
    ),
    "a secret of its own": (
        lambda all_: all_["gateway"]["environment"].update(ROUNDTABLE_JWT_SECRET="${JWT_SECRET:-secret}"),
        "has a default for ROUNDTABLE_JWT_SECRET",
    ),
}


def test_our_own_file_is_fine() -> None:
    assert compose.check(ROOT) == []


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_found(tmp_path: Path, what: str) -> None:
    breaking, said = BROKEN[what]
    whole = copy.deepcopy(yaml.safe_load((ROOT / compose.FILE).read_text()))
    breaking(whole["services"])
    (tmp_path / compose.FILE).write_text(yaml.safe_dump(whole))
    shutil.copytree(ROOT / "deploy/nats", tmp_path / "deploy/nats")
    shutil.copytree(ROOT / "deploy/k8s/base/nats", tmp_path / "deploy/k8s/base/nats")
    faults = compose.check(tmp_path)
    assert [fault for fault in faults if said in fault], faults


def test_a_file_that_is_not_there_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(Broken):
        compose.check(tmp_path)
