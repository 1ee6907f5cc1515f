"""Rules and tests, both ways: every held rule of docs/spec.md has a marked test, every mark names a rule there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests/**/*.py", "libs/*/tests/**/*.py", "services/*/tests/**/*.py", "clients/*/tests/**/*.py")
SCRIPTS = ("clients/*/tests/*.test.ts",)
STATUSES = {"held", "planned"}


def rules_of(page: str) -> dict[str, str]:
    """Rule id to status, for every heading of the third level. Raises ValueError for one that is not `XX1` with a status."""
    rules: dict[str, str] = {}
    for part in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        match = re.match(r"([A-Z]{2}[1-9][0-9]*)\nstatus: ([a-z]+)\n\n\S", part)
        if match is None:
            raise ValueError(f"not a rule: {part.splitlines()[:2]}")
        rule, status = match.groups()
        if rule in rules or status not in STATUSES:
            raise ValueError(f"{rule} stands there twice, or is neither of {sorted(STATUSES)}: {status}")
        rules[rule] = status
    return rules


def marks_of(source: str) -> Iterator[tuple[str, int]]:
    """Every id in a `pytest.mark.rule(…)`, with its line. Raises ValueError where ids cannot be read from the text."""
    tree = ast.parse(source)
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and ast.unparse(node) == "pytest.mark.rule"):
            continue
        call = called.get(id(node))
        if call is None or not call.args or call.keywords:
            raise ValueError(f'line {node.lineno}: a rule mark is written out: @pytest.mark.rule("RS4")')
        for argument in call.args:
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                raise ValueError(f"line {node.lineno}: a rule mark takes nothing but strings")
            yield argument.value, node.lineno


def names_of(source: str) -> Iterator[tuple[str, int]]:
    """Every id at the beginning of a test's name in TypeScript, such as `test("CL1, CL2: what is shown", …)`, with its line."""
    for match in re.finditer(r"\btest\(\s*[\"'`]([A-Z]{2}[0-9]+(?:, [A-Z]{2}[0-9]+)*): ", source):
        for rule in match[1].split(", "):
            yield rule, source.count("\n", 0, match.start()) + 1


RULES = rules_of((ROOT / "docs/spec.md").read_text())


def all_marks() -> dict[str, list[str]]:
    """Rule id to the places that show it."""
    found: dict[str, list[str]] = {}
    for path in sorted({path for folder in (*FOLDERS, *SCRIPTS) for path in ROOT.glob(folder)}):
        try:
            read = names_of if path.suffix == ".ts" else marks_of
            for rule, line in read(path.read_text()):
                found.setdefault(rule, []).append(f"{path.relative_to(ROOT)}:{line}")
        except ValueError as error:
            raise ValueError(f"{path.relative_to(ROOT)}: {error}") from None
    return found


def test_every_held_rule_has_a_test() -> None:
    shown = all_marks().keys()
    missing = [rule for rule, status in RULES.items() if status == "held" and rule not in shown]
    assert not missing, f"held in docs/spec.md, but no test is marked with: {', '.join(missing)}"


def test_every_mark_names_a_rule() -> None:
    unknown = {rule: places for rule, places in all_marks().items() if rule not in RULES}
    assert not unknown, f"not in docs/spec.md: {unknown}"


def test_the_spec_has_every_series_without_a_hole() -> None:
    series: dict[str, list[int]] = {}
    for rule in RULES:
        series.setdefault(rule[:2], []).append(int(rule[2:]))
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in series.values())
    last = {name: numbers[-1] for name, numbers in series.items()}
    contract = {"CO": 10, "EN": 7, "AU": 7, "RS": 8, "CV": 4, "PR": 5, "LI": 4, "CL": 5}
    assert {name: last[name] for name in contract} == contract


# This file's own reading


def test_a_page_is_read_as_rules_with_their_status() -> None:
    assert rules_of(
        "# Page\n\n### XX1\nstatus: held\n\nText.\n\n## Next\n\n### YY12\nstatus: planned\n\nMore.\n"
    ) == {
        "XX1": "held",
        "YY12": "planned",
    }


@pytest.mark.parametrize(
    "page",
    [
        "### XX1\n\nNo status.",
        "### XX1\nstatus: maybe\n\nA status that is none.",
        "### A heading\nstatus: held\n\nNo id.",
        "### XX1\nstatus: held\n\n",
        "### XX1\nstatus: held\n\nOnce.\n\n### XX1\nstatus: held\n\nTwice.",
    ],
)
def test_a_page_with_a_fault_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match=r"XX1|not a rule"):
        rules_of(page)


def test_marks_are_found_wherever_they_stand() -> None:
    source = """
import pytest
pytestmark = [pytest.mark.anyio, pytest.mark.rule("XX1")]
@pytest.mark.rule("XX2", "XX3")
def test_a(): ...
class TestB:
    @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.rule("XX4"))])
    async def test_c(self, x): ...
# @pytest.mark.rule("XX5")
text = '@pytest.mark.rule("XX6")'
"""
    assert sorted(rule for rule, _ in marks_of(source)) == ["XX1", "XX2", "XX3", "XX4"]


@pytest.mark.parametrize(
    "line",
    [
        "rule = pytest.mark.rule",
        "pytest.mark.rule()",
        "pytest.mark.rule(NAME)",
        "pytest.mark.rule(4)",
        "pytest.mark.rule(id='XX1')",
    ],
)
def test_a_mark_that_cannot_be_read_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="rule mark"):
        list(marks_of(line))


def test_rules_are_read_from_the_names_of_tests_in_typescript() -> None:
    source = """
test("XX1: said", () => {});
  test(`XX2, XX3: ${form}: said`, async () => {});
test(
  'XX4: said', work);
test("no rule", () => {});
// test of "XX5: nothing"
latest("XX6: nothing");
"""
    assert list(names_of(source)) == [("XX1", 2), ("XX2", 3), ("XX3", 3), ("XX4", 4)]
