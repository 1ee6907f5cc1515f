"""Who can reach whom under the network policies is what deploy/k8s/reachability.json says: no more and no less."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Final

import yaml

from .manifests import OVERLAYS, Manifest, render
from .programs import installed, run
from .result import Broken

EXPECTED: Final = "deploy/k8s/reachability.json"
KINDS: Final = ("Namespace", "NetworkPolicy", "Deployment", "StatefulSet", "Job", "Service")
WORKLOADS: Final = ("Deployment", "StatefulSet", "Job")
OUTSIDE: Final[dict[str, dict[str, str]]] = {
    "ingress": {"roundtable/from": "ingress"},
    "monitoring": {"roundtable/from": "monitoring"},
    "stranger": {},
    "kube-system": {"kubernetes.io/metadata.name": "kube-system"},
}
"""Namespaces of the cluster that we stand in, and their labels. In each runs one pod of the same name."""
DNS: Final = {"k8s-app": "kube-dns"}
ANOTHER: Final = "another-"
_LINE: Final = re.compile(r"^(.+?) => (.+?) : (.+)$", re.MULTILINE)
_OPEN: Final = re.compile(r"\{protocols:([A-Z, ]+),dst_ports:([0-9,-]+)\}")

Map = dict[str, str]
"""From `WHO -> WHOM` to `PROTOCOL PORT`, where one of both is ours."""


def check(root: Path) -> list[str]:
    wanted: dict[str, Map] = json.loads((root / EXPECTED).read_text(encoding="utf-8"))
    everywhere = wanted.pop("everywhere")
    faults = []
    for target in [*(f"overlays/{name}" for name in OVERLAYS), *wanted]:
        faults += differences(target, reachable(render(root, target)), everywhere | wanted.get(target, {}))
    return faults


def differences(target: str, found: Map, expected: Map) -> list[str]:
    faults = []
    for pair in sorted(found.keys() | expected.keys()):
        have, want = found.get(pair, "nothing"), expected.get(pair, "nothing")
        if have != want:
            faults.append(f"{target}: {pair} is open on {have}, and should be on {want}")
    return faults


def reachable(manifests: tuple[Manifest, ...]) -> Map:
    program = installed("netpol/bin/nca")
    ours = [_plain(each) for each in manifests if each["kind"] in KINDS]
    space = next(each["metadata"]["name"] for each in ours if each["kind"] == "Namespace")
    with tempfile.TemporaryDirectory(prefix="roundtable-policies-") as folder:
        (Path(folder) / "all.yaml").write_text(
            yaml.safe_dump_all([*ours, *_company(ours, space)]), encoding="utf-8"
        )
        done = run(program, "--connectivity", "-r", folder, "-o", "txt_no_fw_rules")
    pairs = _LINE.findall(done.stdout)
    if not pairs:
        raise Broken(f"network-config-analyzer: {done.stdout[-500:]}{done.stderr[-500:]}")
    found: Map = {}
    for source, target, what in pairs:
        who, whom = _name(source, space), _name(target, space)
        twin = whom == ANOTHER + who or not (who + whom).count(ANOTHER)
        if twin and (f"{space}/" in source or f"{space}/" in target):
            found[f"{who} -> {whom}"] = _ports(what)
    return found


def _plain(manifest: Manifest) -> Manifest:
    """Without a field that the analyser warns of and does not need."""
    if manifest["kind"] != "Service":
        return manifest
    ports = [
        {k: v for k, v in each.items() if k != "appProtocol"} for each in manifest["spec"].get("ports", [])
    ]
    return {**manifest, "spec": {**manifest["spec"], "ports": ports}}


def _company(ours: list[Manifest], space: str) -> list[Manifest]:
    """Others in the cluster; one of our namespace that no policy names; and a second pod of each workload."""
    pods = [_pod("nobody", space, {"app": "nobody"})]
    for each in ours:
        if each["kind"] in WORKLOADS:
            labels = each["spec"]["template"]["metadata"]["labels"]
            pods.append(_pod(ANOTHER + each["metadata"]["name"], space, labels))
    for name, labels in OUTSIDE.items():
        pods.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        pods.append(_pod(name, name, DNS if name == "kube-system" else {"app": name}))
    return pods


def _pod(name: str, space: str, labels: dict[str, str]) -> Manifest:
    metadata = {"name": name, "namespace": space, "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }


def _name(endpoint: str, space: str) -> str:
    """`roundtable/nats[StatefulSet]` is `nats`, and any range of addresses is `internet`."""
    if "/" not in endpoint or endpoint[0].isdigit():
        return "internet"
    where, name = endpoint.partition("[")[0].split("/", 1)
    return name if where == space else where


def _ports(what: str) -> str:
    match = _OPEN.fullmatch(what.strip())
    return f"{match[1].replace(', ', '+')} {match[2]}" if match else what.strip()
