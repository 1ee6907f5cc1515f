"""Every variable that the manifests set is one that the programs read; secrets are in no file; ops paths are not public."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from .manifests import Manifest, name_of, of_kind, pod_of, render, targets
from .result import Broken

SECRETS: Final = {
    "nats-passwords": {"gateway", "canvas", "presence", "activity", "provision", "operator", "sys"},
    "nats-tls": {"tls.crt", "tls.key", "ca.crt"},
    "gateway-jwt": {"secret"},
}
"""What deploy/README.md tells to make, and deploy.secrets makes."""
OPS: Final = ("/metrics", "/healthz", "/readyz")
SECRET_WORDS: Final = re.compile(r"password|secret|token|credential|private", re.IGNORECASE)


def check(root: Path) -> list[str]:
    known = set(
        re.findall(r"`(ROUNDTABLE_\w+)`", (root / "docs/configuration.md").read_text(encoding="utf-8"))
    )
    paths = [*json.loads((root / "docs/schema/openapi.json").read_text(encoding="utf-8"))["paths"]]
    if not known or not paths:
        raise Broken("docs/configuration.md or docs/schema/openapi.json tells nothing")
    return [
        fault for target in targets(root) for fault in faults_of(target, render(root, target), known, paths)
    ]


def known_variables(root: Path) -> set[str]:
    """What the programs read, by the page that is generated from their settings."""
    return set(
        re.findall(r"`(ROUNDTABLE_\w+)`", (root / "docs/configuration.md").read_text(encoding="utf-8"))
    )


def faults_of(target: str, manifests: tuple[Manifest, ...], known: set[str], paths: list[str]) -> list[str]:
    """`known` are the variables that the programs read, `paths` those that the gateway serves."""
    looks = (_variables(manifests, known), _secrets(target, manifests), _doors(manifests, paths))
    return [f"{target}: {fault}" for look in looks for fault in look]


def _variables(manifests: tuple[Manifest, ...], known: set[str]) -> Iterator[str]:
    for each in of_kind(manifests, "ConfigMap"):
        for name in each.get("data", {}):
            if name.startswith("ROUNDTABLE_") and name not in known:
                yield f"{name_of(each)} sets {name}, which no program reads"
    for workload in of_kind(manifests, "Deployment", "Job"):
        for variable in pod_of(workload)["containers"][0].get("env", []):
            if variable["name"].startswith("ROUNDTABLE_") and variable["name"] not in known:
                yield f"{name_of(workload)} sets {variable['name']}, which no program reads"


def _secrets(target: str, manifests: tuple[Manifest, ...]) -> Iterator[str]:
    made = {re.sub(r"-[a-z0-9]{10}$", "", each["metadata"]["name"]) for each in of_kind(manifests, "Secret")}
    if target != "overlays/dev" and made:
        yield f"there are secrets among the files: {', '.join(sorted(made))}"
    for each in of_kind(manifests, "ConfigMap"):
        for name, value in each.get("data", {}).items():
            if name.startswith("ROUNDTABLE_") and SECRET_WORDS.search(name) and value:
                yield f"{name_of(each)} holds {name}, which belongs into a Secret"
    for workload in of_kind(manifests, "Deployment", "StatefulSet", "Job"):
        for name, key in _asked(pod_of(workload)):
            plain = re.sub(r"-[a-z0-9]{10}$", "", name) if target == "overlays/dev" else name
            if key not in SECRETS.get(plain, ()):
                yield f"{name_of(workload)} wants {key} of the secret {name}, which nobody makes"
        for variable in (each for part in pod_of(workload)["containers"] for each in part.get("env", [])):
            if SECRET_WORDS.search(variable["name"]) and variable.get("value"):
                yield f"{name_of(workload)} has {variable['name']} in plain text"


def _asked(pod: Manifest) -> Iterator[tuple[str, str]]:
    for variable in (each for container in pod["containers"] for each in container.get("env", [])):
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            yield reference["name"], reference["key"]
    for volume in pod.get("volumes", []):
        if secret := volume.get("secret"):
            for item in secret.get("items", [{"key": "tls.crt"}, {"key": "tls.key"}, {"key": "ca.crt"}]):
                yield secret["secretName"], item["key"]


def _doors(manifests: tuple[Manifest, ...], paths: list[str]) -> Iterator[str]:
    for door in of_kind(manifests, "HTTPRoute", "Ingress"):
        matches = [*_matches(door)]
        for path in paths:
            wanted = path not in OPS
            if wanted != any(_admits(kind, value, path) for kind, value in matches):
                yield f"{name_of(door)} {'does not let' if wanted else 'lets'} {path} in"


def _matches(door: Manifest) -> Iterator[tuple[str, str]]:
    rules: list[dict[str, Any]] = door["spec"]["rules"]
    for rule in rules:
        for match in rule.get("matches", []):
            yield match["path"]["type"], match["path"]["value"]
        for each in rule.get("http", {}).get("paths", []):
            yield each["pathType"], each["path"]


def _admits(kind: str, value: str, path: str) -> bool:
    if kind == "Exact":
        return path == value
    prefix = value.rstrip("/")
    return path == prefix or path.startswith(prefix + "/")
