"""docker-compose.yml is valid, names all programs, watches their health, pins its images and holds no secret of its own."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from . import node
from .result import Broken
from .settings import SECRET_WORDS

FILE: Final = "docker-compose.yml"
NEEDED: Final = {"nats", "gateway", "canvas", "presence", "activity", "prometheus", "alertmanager", "grafana"}
MEANT: Final = {"invalid-schema", "no-duplicate-container-names", "no-duplicate-exported-ports"}
"""The linter's other rules are a matter of taste."""
GIVEN: Final = re.compile(r"\$\{\w+:\?[^}]*\}|/run/secrets/\S+")
"""A value that must come from outside: without it nothing starts."""

Service = dict[str, Any]


def check(root: Path) -> list[str]:
    file = root / FILE
    try:
        services: dict[str, Service] = yaml.safe_load(file.read_text(encoding="utf-8"))["services"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise Broken(f"{FILE} cannot be read: {error!r}") from None
    faults = [f"line {line}: {text}" for line, text in _linted(file)]
    faults += [f"there is no service {name}" for name in sorted(NEEDED - services.keys())]
    for name, service in services.items():
        faults += [f"{name} {fault}" for fault in _faults_of(service)]
    return [*faults, *_unset(root, services.get("nats", {}))]


def _linted(file: Path) -> Iterator[tuple[int, str]]:
    with tempfile.TemporaryDirectory(prefix="roundtable-compose-") as folder:
        report = Path(folder) / "report.json"  # by a pipe, its end is lost when it is long
        options = ("--formatter", "json", "--output-file", str(report))
        done = node.node("node_modules/dclint/bin/dclint.cjs", str(file.resolve()), *options)
        try:
            said = json.loads(report.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            raise Broken(f"dclint: {done.stdout[-500:]}{done.stderr[-500:]}") from None
    for message in (each for part in said for each in part["messages"]):
        if message["rule"] in MEANT:
            yield message["line"], f"{message['rule']}: {message['message']}"


def _unset(root: Path, nats: Service) -> Iterator[str]:
    """nats-server does not start when a variable of its files is in no environment."""
    for volume in nats.get("volumes", []):
        path = root / str(volume).partition(":")[0]
        if path.suffix == ".conf" and path.is_file():
            text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
            for name in sorted(
                {*re.findall(r"\$([A-Z][A-Z0-9_]*)\b", text)}
                - {*nats.get("environment", {}), "JS", "KV", "O"}
            ):
                yield f"nats does not set {name}, which {path.name} asks for"


def _faults_of(service: Service) -> Iterator[str]:
    image = str(service.get("image", ""))
    if "build" not in service and (":" not in image or image.endswith(":latest")):
        yield f"has the image {image!r}, which is whatever it is that day"
    health = service.get("healthcheck", {})
    lasting = service.get("restart") != "on-failure"  # else it does its work once and ends
    if lasting and (not health or health.get("disable")):
        yield "has no health check"
    environment = service.get("environment", {})
    if isinstance(environment, list):
        environment = dict(line.partition("=")[::2] for line in environment)
    for name, value in environment.items():
        if SECRET_WORDS.search(name) and value and not GIVEN.fullmatch(str(value)):
            yield f"has a default for {name}"
