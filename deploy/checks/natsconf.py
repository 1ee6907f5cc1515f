"""NATS loses nothing that it acknowledged: synced, within its volume, leaving politely; and nats-server reads its files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .manifests import OVERLAYS, Manifest, of_kind, pod_of, render
from .programs import installed, run
from .result import Broken

UNITS: Final = {
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
LEAST_LAME_DUCK: Final = 30
"""Seconds; nats-server refuses to start with less."""
SPARE: Final = 10
CONFIG: Final = "nats-config"


def check(root: Path) -> list[str]:
    faults = []
    for name in OVERLAYS:
        manifests = render(root, f"overlays/{name}")
        faults += [f"overlays/{name}: {fault}" for fault in (*faults_of(manifests), *unread(manifests))]
    return faults


def faults_of(manifests: tuple[Manifest, ...]) -> Iterator[str]:
    conf = config_of(manifests)["nats.conf"]
    server = next(each for each in of_kind(manifests, "StatefulSet") if each["metadata"]["name"] == "nats")
    pod = pod_of(server)
    if "sync_interval: always" not in _block(conf, "jetstream"):
        yield "sync_interval is not `always` inside `jetstream`: a power cut takes what was acknowledged"
    store, memory = _bytes(conf, "max_file_store"), _bytes(conf, "max_mem_store")
    volume = _size(server["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"])
    if not store:
        yield "max_file_store is unset: the server believes that the node's whole disk is its own"
    elif store > 0.95 * volume:
        yield f"max_file_store {store:,} leaves no room on a volume of {volume:,} bytes"
    given = {each["name"]: each.get("value", "") for each in pod["containers"][0]["env"]}
    account = _bytes(f"account: {given.get('NATS_ACCOUNT_STORE', '')}", "account")
    if not 0 < account < server["spec"]["replicas"] * store:
        yield f"the account may keep {account:,} bytes: servers are full before it, and a full server leads no log"
    limit = _size(pod["containers"][0]["resources"]["limits"]["memory"])
    if not memory:
        yield "max_mem_store is unset: the server believes that the node's whole memory is its own"
    elif memory > limit / 2:
        yield f"max_mem_store {memory:,} is more than half of the {limit:,} bytes that the pod may have"
    lame, grace = _seconds(conf, "lame_duck_duration"), _seconds(conf, "lame_duck_grace_period")
    if lame < LEAST_LAME_DUCK:
        yield f"lame_duck_duration is {lame} s, and the server takes no less than {LEAST_LAME_DUCK} s"
    if pod["terminationGracePeriodSeconds"] < lame + grace + SPARE:
        yield f"the pod is killed after {pod['terminationGracePeriodSeconds']} s, amid its {lame + grace} s as a lame duck"
    if (
        "ldm=/run/nats/nats.pid" not in str(pod["containers"][0].get("lifecycle"))
        or "/run/nats/nats.pid" not in conf
    ):
        yield "preStop does not make it a lame duck: clients are cut off"
    routes = re.findall(r"nats-(\d+)\.nats-headless:6222", conf)
    if [*map(str, range(server["spec"]["replicas"]))] != routes:
        yield f"the routes name {routes}, and there are {server['spec']['replicas']} servers"
    if "no_advertise: true" not in _block(conf, "cluster"):
        yield "clients would learn addresses that no certificate names (no_advertise)"
    probes = {
        kind: pod["containers"][0][f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "readiness", "liveness")
    }
    wanted = {
        "startup": "/healthz",
        "readiness": "/healthz?js-server-only=true",
        "liveness": "/healthz?js-enabled-only=true",
    }
    if probes != wanted:
        yield f"the probes ask {probes}, and should ask {wanted}"


def config_of(manifests: tuple[Manifest, ...]) -> dict[str, str]:
    for each in of_kind(manifests, "ConfigMap"):
        if each["metadata"]["name"].startswith(CONFIG):
            data: dict[str, str] = each["data"]
            return data
    raise Broken(f"there is no ConfigMap {CONFIG}")


def unread(manifests: tuple[Manifest, ...]) -> Iterator[str]:
    """What nats-server itself says of the files, with the pod's environment and without TLS's files."""
    server = next(each for each in of_kind(manifests, "StatefulSet") if each["metadata"]["name"] == "nats")
    given = {each["name"]: each.get("value", "value") for each in pod_of(server)["containers"][0]["env"]}
    with tempfile.TemporaryDirectory(prefix="roundtable-nats-") as folder:
        for name, text in config_of(manifests).items():
            plain = re.sub(r"\btls \{[^}]*\}", "", text)
            (Path(folder) / name).write_text(plain, encoding="utf-8")
        done = run(installed("bin/nats-server"), "-t", "-c", Path(folder) / "nats.conf", env=given)
    if done.returncode or "is valid" not in done.stderr + done.stdout:
        yield f"nats-server does not read its files: {(done.stderr + done.stdout).strip()[-400:]}"


def _block(conf: str, name: str) -> str:
    match = re.search(rf"^{name} \{{\n(.*?)^\}}", conf, re.MULTILINE | re.DOTALL)
    return re.sub(r"#.*", "", match[1]) if match else ""


def _bytes(conf: str, name: str) -> int:
    match = re.search(rf"^\s*{name}: *([0-9.]+)([KMGT])B", conf, re.MULTILINE)
    # nats-server counts KB and kin by 1024.
    return int(float(match[1]) * UNITS[match[2] + "i"]) if match else 0


def _size(quantity: str) -> int:
    match = re.fullmatch(r"([0-9.]+)([KMGT]i?)?", quantity)
    if not match:
        raise Broken(f"{quantity} is no size")
    return int(float(match[1]) * (UNITS[match[2]] if match[2] else 1))


def _seconds(conf: str, name: str) -> int:
    match = re.search(rf'^{name}: *"(\d+)s"', conf, re.MULTILINE)
    return int(match[1]) if match else 0
