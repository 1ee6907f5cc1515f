"""What has cost others a night: drains cut short, two autoscalers at odds, a zero that is no data, a majority lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from .manifests import Manifest, name_of, of_kind, pod_of, render, targets

SCALERS: Final = ("HorizontalPodAutoscaler", "ScaledObject")
PROGRAMS: Final = {"gateway", "canvas", "presence", "activity"}
SPARE: Final = 15
"""Seconds between the end of a drain and the kill, for what is left to be said and done."""


def check(root: Path) -> list[str]:
    return [f"{target}: {fault}" for target in targets(root) for fault in faults_of(render(root, target))]


def faults_of(manifests: tuple[Manifest, ...]) -> list[str]:
    looks = (_scaling, _probes, _endings, _disruptions, _identities, _images)
    return [fault for look in looks for fault in look(manifests)]


def _scaling(manifests: tuple[Manifest, ...]) -> Iterator[str]:
    scaled: dict[str, str] = {}
    for scaler in of_kind(manifests, *SCALERS):
        spec, name = scaler["spec"], name_of(scaler)
        target = spec["scaleTargetRef"]["name"]
        if target in scaled:
            yield f"{name} and {scaled[target]} both scale {target}, and undo each other's work"
        scaled[target] = name
        if target not in {each["metadata"]["name"] for each in of_kind(manifests, "Deployment")}:
            yield f"{name} scales {target}, which is not there"
        if spec.get("minReplicas", spec.get("minReplicaCount", 0)) < 2:
            yield f"{name} may leave one {target} or none: whatever takes that one takes all"
        yield from _scaling_down(name, scaler)
    for deployment in of_kind(manifests, "Deployment"):
        if deployment["metadata"]["name"] in scaled and "replicas" in deployment["spec"]:
            yield f"{name_of(deployment)} has `replicas`, though {scaled[deployment['metadata']['name']]} says how many"


def _scaling_down(name: str, scaler: Manifest) -> Iterator[str]:
    spec: dict[str, Any] = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        advanced = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
        behavior = advanced.get("behavior", {})
        for trigger in spec["triggers"]:
            if trigger["type"].startswith("nats-jetstream"):
                yield f"{name}: commands have no JetStream consumer: this trigger would stay at the minimum for ever"
            if trigger["type"] == "prometheus" and trigger["metadata"].get("ignoreNullValues") != "false":
                yield f"{name} takes a series that is missing for a zero (ignoreNullValues)"
        if "fallback" not in spec:
            yield f"{name} has no `fallback` for the time in which Prometheus is away"
    else:
        behavior = spec.get("behavior", {})
    down = behavior.get("scaleDown", {})
    policies = down.get("policies", [])
    if [(each["type"], each["value"]) for each in policies] != [("Pods", 1)]:
        yield f"{name} may take away more than one pod at a time, and half the tables with them"
    if down.get("stabilizationWindowSeconds", 0) < 300:
        yield f"{name} scales down before it is clear that the rush is over"


def _probes(manifests: tuple[Manifest, ...]) -> Iterator[str]:
    for workload in of_kind(manifests, "Deployment"):
        container = pod_of(workload)["containers"][0]
        paths = {
            kind: container[f"{kind}Probe"]["httpGet"]["path"]
            for kind in ("startup", "liveness", "readiness")
        }
        if (paths["startup"], paths["liveness"]) != ("/healthz", "/healthz"):
            yield f"{name_of(workload)} is restarted for what a restart does not mend ({paths['liveness']})"
        shared = (
            "?exclude=canvas&exclude=presence&exclude=activity"
            if workload["metadata"]["name"] == "gateway"
            else ""
        )
        if paths["readiness"] != f"/readyz{shared}":
            yield f"{name_of(workload)} is ready by {paths['readiness']}: all go at once when what they share is away"


def _endings(manifests: tuple[Manifest, ...]) -> Iterator[str]:
    settings = dict(_config_maps(manifests))
    for workload in of_kind(manifests, "Deployment"):
        pod = pod_of(workload)
        container = pod["containers"][0]
        drain = 0.0
        for source in container.get("envFrom", []):
            values = settings.get(source.get("configMapRef", {}).get("name", ""), {})
            drain = float(values.get("ROUNDTABLE_DRAIN_SECONDS", drain))
        before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = pod.get("terminationGracePeriodSeconds", 30)
        if grace < before + drain + SPARE:
            yield f"{name_of(workload)} is killed {grace} s after its end began, and drains for {before + drain:g} s"
        if workload["metadata"]["name"] == "gateway" and not before:
            yield "Deployment/gateway drains at once: proxies still send it new connections"
        rolling = workload["spec"].get("strategy", {}).get("rollingUpdate", {})
        if rolling.get("maxUnavailable") != 0 or rolling.get("maxSurge") != 1:
            yield f"{name_of(workload)} does not replace its pods one by one: everybody would reconnect at once"


def _disruptions(manifests: tuple[Manifest, ...]) -> Iterator[str]:
    budgets = of_kind(manifests, "PodDisruptionBudget")
    for workload in of_kind(manifests, "Deployment", "StatefulSet"):
        labels = workload["spec"]["template"]["metadata"]["labels"].items()
        fitting = [each for each in budgets if each["spec"]["selector"]["matchLabels"].items() <= labels]
        if [each["spec"].get("maxUnavailable") for each in fitting] != [1]:
            yield f"{name_of(workload)} needs one PodDisruptionBudget with maxUnavailable 1"
        spread = {each["topologyKey"] for each in pod_of(workload).get("topologySpreadConstraints", [])}
        if "topology.kubernetes.io/zone" not in spread:
            yield f"{name_of(workload)} is not spread over zones"


def _identities(manifests: tuple[Manifest, ...]) -> Iterator[str]:
    accounts = {each["metadata"]["name"]: each for each in of_kind(manifests, "ServiceAccount")}
    for workload in of_kind(manifests, "Deployment", "StatefulSet", "Job"):
        pod = pod_of(workload)
        account = accounts.get(pod.get("serviceAccountName", "default"))
        if account is None:
            yield f"{name_of(workload)} has no ServiceAccount of its own"
        elif account.get("automountServiceAccountToken") is not False or pod.get(
            "automountServiceAccountToken"
        ):
            yield f"{name_of(workload)} gets a token of the cluster"
    for space in of_kind(manifests, "Namespace"):
        if space["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{name_of(space)} does not enforce the pod security standard `restricted`"


def _images(manifests: tuple[Manifest, ...]) -> Iterator[str]:
    for workload in of_kind(manifests, "Deployment", "StatefulSet", "Job"):
        for container in pod_of(workload)["containers"]:
            image: str = container["image"]
            release = "@sha256:" in image or (":" in image and not image.endswith(":latest"))
            if not release and container["name"] not in PROGRAMS | {"provision"}:
                yield f"{name_of(workload)}: {image} is whatever it is that day"


def _config_maps(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    for each in of_kind(manifests, "ConfigMap"):
        yield each["metadata"]["name"], each.get("data", {})
