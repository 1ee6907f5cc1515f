"""The house's own rules: locks, packages, decisions and links that belong together stay together."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from roundtable.common import VERSION

ROOT = Path(__file__).parents[2]
SERVED = sorted([*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
"""What a deployment installs; its library and the services."""
CLIENT = ROOT / "clients/python/pyproject.toml"
PROJECTS = [*SERVED, CLIENT]
HOSTS = tuple(
    ".".join(parts)
    for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"))
)


def project(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads(path.read_text())["project"]
    return content


def needs(path: Path) -> list[str]:
    """All requirements, those of extras too."""
    content = project(path)
    extras: dict[str, list[str]] = content.get("optional-dependencies", {})
    return [*content["dependencies"], *(line for lines in extras.values() for line in lines)]


def name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9-]", requirement, maxsplit=1)[0].lower()


def files() -> list[Path]:
    """What is or will be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for text in listed.stdout.decode().split("\0") if text and (path := ROOT / text).is_file()]


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_all_distributions_have_one_version() -> None:
    assert {project(path)["version"] for path in PROJECTS} == {VERSION}
    ours = {
        path.parent.name: [pin for pin in needs(path) if name(pin).startswith("roundtable")]
        for path in PROJECTS
    }
    common, service = f"roundtable-common=={VERSION}", f"roundtable-common[service]=={VERSION}"
    assert ours == {
        "common": [],
        "python": [common],
        **{each: [service] for each in ("activity", "canvas", "gateway", "presence")},
    }


def test_the_runtime_lock_holds_what_the_distributions_need_and_nothing_else() -> None:
    needed = {name(line) for path in SERVED for line in needs(path)} - {"roundtable-common"}
    asked = (ROOT / "requirements/runtime.in").read_text().splitlines()
    assert {name(line) for line in asked if line and line[0] not in "#-"} == needed


def test_the_client_drags_in_nothing_but_its_two_libraries_and_the_schema() -> None:
    common = ROOT / "libs/common/pyproject.toml"
    assert [name(line) for line in project(common)["dependencies"]] == ["msgspec"]
    needed = {name(line) for line in needs(CLIENT)}
    assert needed == {"httpx", "msgspec", "roundtable-common", "websockets"}
    locked = (ROOT / "requirements/dev.txt").read_text()
    assert all(f"\n{each}==" in locked for each in needed - {"roundtable-common"})


def test_the_locks_agree_and_every_package_has_hashes() -> None:
    pins = {}
    for lock in ("runtime", "dev"):
        text = (ROOT / f"requirements/{lock}.txt").read_text()
        pins[lock] = set(re.findall(r"^([a-z0-9-]+==\S+)", text, re.MULTILINE))
        entries = re.split(r"^(?=[a-z0-9-]+(?:\[\w+\])?==)", text, flags=re.MULTILINE)[1:]
        assert entries
        assert all("--hash=sha256:" in entry for entry in entries)
    assert pins["runtime"] <= pins["dev"]


def test_no_file_names_a_package_registry() -> None:
    named = [
        str(path.relative_to(ROOT))
        for path in files()
        if any(host.encode() in path.read_bytes() for host in HOSTS)
    ]
    assert not named


def test_the_namespace_has_no_init_and_every_package_is_typed() -> None:
    for path in PROJECTS:
        space = path.parent / "src/roundtable"
        assert not (space / "__init__.py").exists()
        (package,) = [folder for folder in space.iterdir() if (folder / "__init__.py").exists()]
        assert (package / "py.typed").exists()
        assert package.name == ("client" if path == CLIENT else path.parent.name)


def test_decisions_are_numbered_and_the_index_tells_what_they_say() -> None:
    index = (ROOT / "docs/adr/README.md").read_text()
    rows = re.findall(
        r"^\| \[(\d{4})]\((\S+?)\) \| (.+?) \| (\w+) \| (\S+) \| ?(.*?) ?\|$", index, re.MULTILINE
    )
    rules = set(re.findall(r"^### (\w+)$", (ROOT / "docs/spec.md").read_text(), re.MULTILINE))
    decisions = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))[1:]
    assert [row[1] for row in rows] == [path.name for path in decisions]
    for (number, file, title, status, date, concerns), path in zip(rows, decisions, strict=True):
        head = dict(re.findall(r"^(\w+): (.*)$", path.read_text().split("---")[1], re.MULTILINE))
        assert file.startswith(number)
        assert head == {
            "id": f'"{number}"',
            "title": title,
            "status": status,
            "date": date,
            "supersedes": head["supersedes"],
            "concerns": f"[{concerns}]",
        }
        assert f"# {number}. {title}\n" in path.read_text()
        assert {rule for rule in concerns.split(", ") if rule} <= rules
        assert status in {"proposed", "accepted", "superseded"}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    broken = [link for link in links if not (page.parent / link).exists()]
    assert not broken


def test_the_page_on_capacity_follows_from_the_figures_that_were_measured() -> None:
    command = [sys.executable, "-m", "bench.growth", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
