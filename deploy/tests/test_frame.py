"""The frame that runs the checks: a fault, a broken file and a missing tool are told apart, and none is silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from deploy.checks.__main__ import main, modules, run
from deploy.checks.result import Broken, Unavailable


def module(check: Callable[[Path], list[str]]) -> ModuleType:
    made = ModuleType("deploy.checks.example", "Examples.\n\nMore of them.")
    made.check = check  # type: ignore[attr-defined]
    return made


def broken(_: Path) -> list[str]:
    raise Broken("no such file")


def lacking(_: Path) -> list[str]:
    raise Unavailable("no kustomize")


def test_a_check_without_faults_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(module(lambda _: []), tmp_path, strict=True)
    assert capsys.readouterr().out.startswith("ok      example       Examples. (")


def test_each_fault_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run(module(lambda _: ["one", "two"]), tmp_path, strict=False)
    said = capsys.readouterr().out
    assert said.startswith("FAILED")
    assert "- one" in said
    assert "- two" in said


def test_what_cannot_go_on_has_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run(module(broken), tmp_path, strict=False)
    assert "- no such file" in capsys.readouterr().out


def test_a_missing_tool_is_loud_on_a_desk_and_a_failure_in_ci(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(module(lacking), tmp_path, strict=False)
    assert capsys.readouterr().out.startswith("SKIPPED")
    assert not run(module(lacking), tmp_path, strict=True)
    assert capsys.readouterr().out.startswith("FAILED")


def test_every_check_says_what_it_looks_at() -> None:
    for each in modules():
        assert each.__doc__, each.__name__


def test_an_unknown_check_is_no_success() -> None:
    assert main(["nonsense"]) == 2
