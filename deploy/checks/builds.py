"""Every overlay builds, and every component upon the base."""

from __future__ import annotations

from pathlib import Path

from .manifests import name_of, render, targets
from .result import Broken


def check(root: Path) -> list[str]:
    faults = []
    for target in targets(root):
        try:
            manifests = render(root, target)
        except Broken as broken:
            faults.append(str(broken))
            continue
        names = [(each.get("metadata", {}).get("namespace"), name_of(each)) for each in manifests]
        faults += [f"{target}: {each[1]} is there twice" for each in {*names} if names.count(each) > 1]
        spaces = {str(each["metadata"].get("namespace")) for each in manifests if each["kind"] != "Namespace"}
        if len(spaces) != 1 or "None" in spaces:
            faults.append(f"{target}: objects in {sorted(spaces)}, and all belong into one namespace")
    return faults
