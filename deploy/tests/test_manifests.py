"""The checks of manifests find what is broken, and nothing where nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.checks import builds, pitfalls, policies, reachability, schemas, settings
from deploy.checks.manifests import Manifest
from deploy.checks.result import Broken

from .conftest import ROOT, Breaking, Overlay, replace

Named = dict[str, Manifest]


def container(workload: Manifest) -> dict[str, Any]:
    first: dict[str, Any] = workload["spec"]["template"]["spec"]["containers"][0]
    return first


# They build


def test_an_overlay_that_names_what_is_not_there_does_not_build(project: Path) -> None:
    replace(
        project / "deploy/k8s/overlays/staging/kustomization.yaml",
        "components/hpa-cpu",
        "components/nonsense",
    )
    assert [fault for fault in builds.check(project) if "overlays/staging does not build" in fault]


def test_an_overlay_that_has_gone_is_missed(project: Path) -> None:
    (project / "deploy/k8s/overlays/production/kustomization.yaml").unlink()
    with pytest.raises(Broken, match="overlays/production"):
        builds.check(project)


def test_an_object_outside_the_namespace_is_found(project: Path) -> None:
    replace(
        project / "deploy/k8s/overlays/staging/kustomization.yaml",
        "namespace: roundtable-staging\n",
        "nameSuffix: -x\n",
    )
    replace(project / "deploy/k8s/base/kustomization.yaml", "namespace: roundtable\n", "")
    assert [fault for fault in builds.check(project) if "belong into one namespace" in fault]


# They are what Kubernetes wants

WRONG_OBJECTS: dict[str, tuple[Breaking, str]] = {
    "an unknown field": (
        lambda all_: all_["Deployment/canvas"]["spec"].update(replica=2),
        "'replica' was unexpected",
    ),
    "a wrong type": (lambda all_: all_["StatefulSet/nats"]["spec"].update(replicas="three"), "three"),
    "an unknown kind": (lambda all_: all_["Service/nats"].update(kind="Servize"), "unknown to Kubernetes"),
    "an unknown group": (
        lambda all_: all_["Service/nats"].update(apiVersion="example.org/v1"),
        "unknown to Kubernetes",
    ),
    "a version that has gone": (
        lambda all_: all_["PodDisruptionBudget/nats"].update(apiVersion="policy/v1beta1"),
        "unknown to Kubernetes",
    ),
}
WRONG_CUSTOM: dict[str, tuple[Breaking, str]] = {
    "an unknown field": (
        lambda all_: all_["ScaledObject/canvas"]["spec"].update(minReplicas=2),
        "minReplicas",
    ),
    "an unknown field deep inside": (
        lambda all_: all_["HTTPRoute/gateway"]["spec"]["rules"][0]["matches"][0]["path"].update(kind="x"),
        "does not exist in type",
    ),
    "a missing field": (lambda all_: all_["ScaledObject/canvas"]["spec"].pop("triggers"), "triggers"),
    "a wrong value": (
        lambda all_: all_["HTTPRoute/gateway"]["spec"]["rules"][0]["matches"][0]["path"].update(
            type="Prefix"
        ),
        "Prefix",
    ),
    "a text of a wrong form": (
        lambda all_: all_["HTTPRoute/gateway"]["spec"].update(hostnames=["not a host"]),
        "hostnames",
    ),
    "an unknown kind": (
        lambda all_: all_["PodMonitor/roundtable"].update(kind="PodMonitoring"),
        "is unknown",
    ),
}


def test_the_objects_of_an_overlay_fit(production: Overlay) -> None:
    own = [each for each in production.whole if schemas.group_of(each) not in schemas.CUSTOM]
    assert len(own) > 30
    assert [fault for each in own for fault in schemas.core_faults(each)] == []


@pytest.mark.parametrize("what", WRONG_OBJECTS)
def test_an_object_that_kubernetes_would_refuse_is_found(production: Overlay, what: str) -> None:
    breaking, said = WRONG_OBJECTS[what]
    broken = [each for each in production.broken(breaking) if schemas.group_of(each) not in schemas.CUSTOM]
    faults = [fault for each in broken for fault in schemas.core_faults(each)]
    assert len(faults) == 1
    assert said in faults[0]


def test_custom_resources_that_an_operator_would_refuse_or_not_see_are_found(production: Overlay) -> None:
    manifests = []
    for what, (breaking, _) in WRONG_CUSTOM.items():
        custom = [each for each in production.broken(breaking) if schemas.group_of(each) in schemas.CUSTOM]
        manifests += [(what, each) for each in custom]
    faults = schemas.custom_faults(manifests)
    for what, (_, said) in WRONG_CUSTOM.items():
        assert [fault for fault in faults if fault.startswith(f"{what}: ") and said in fault], (what, faults)
    assert {fault.partition(": ")[0] for fault in faults} == {*WRONG_CUSTOM}


# Policies of safe pods

UNSAFE: dict[str, tuple[Breaking, str]] = {
    "root": (
        lambda all_: all_["Deployment/canvas"]["spec"]["template"]["spec"].pop("securityContext"),
        "CKV_K8S_23",
    ),
    "a writable root": (
        lambda all_: container(all_["Deployment/canvas"])["securityContext"].update(
            readOnlyRootFilesystem=False
        ),
        "CKV_K8S_22",
    ),
    "capabilities": (
        lambda all_: container(all_["Deployment/canvas"])["securityContext"].pop("capabilities"),
        "CKV_K8S_37",
    ),
    "privileges": (
        lambda all_: container(all_["Deployment/canvas"])["securityContext"].update(privileged=True),
        "CKV_K8S_16",
    ),
    "the host's network": (
        lambda all_: all_["Deployment/canvas"]["spec"]["template"]["spec"].update(hostNetwork=True),
        "CKV_K8S_19",
    ),
}


def test_unsafe_pods_are_found(production: Overlay) -> None:
    broken = {f"unsafe-{n}": production.broken(breaking) for n, (breaking, _) in enumerate(UNSAFE.values())}
    faults = policies.faults_of(ROOT, broken)
    for n, (_, said) in enumerate(UNSAFE.values()):
        of_it = [fault for fault in faults if fault.startswith(f"unsafe-{n}.yaml")]
        assert [fault for fault in of_it if said in fault], (said, of_it)


def test_a_linter_that_has_hardly_looked_is_no_success() -> None:
    with pytest.raises(Broken):
        policies.faults_of(ROOT, {"nothing": ()})


# Who reaches whom


def expected() -> reachability.Map:
    everywhere: reachability.Map = json.loads((ROOT / reachability.EXPECTED).read_text())["everywhere"]
    return everywhere


OPENED: dict[str, tuple[Breaking, str]] = {
    "the default deny has gone": (
        lambda all_: all_.pop("NetworkPolicy/default-deny"),
        "stranger -> nobody is open on",
    ),
    "anybody may enter": (
        lambda all_: all_["NetworkPolicy/nats"]["spec"]["ingress"][0].update(
            {"from": [{"namespaceSelector": {}}]}
        ),
        "stranger -> nats is open on TCP 4222",
    ),
    "a port too many": (
        lambda all_: all_["NetworkPolicy/canvas"]["spec"]["ingress"][0]["ports"].append(
            {"protocol": "TCP", "port": 22}
        ),
        "monitoring -> canvas is open on TCP 22,8080",
    ),
    "somebody is shut out": (
        lambda all_: all_["NetworkPolicy/gateway"]["spec"].update(ingress=[]),
        "ingress -> gateway is open on nothing, and should be on TCP 8080",
    ),
    "a way out": (
        lambda all_: all_["NetworkPolicy/canvas"]["spec"]["egress"].append(
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}
        ),
        "canvas -> internet is open on",
    ),
    "servers cannot hear each other": (
        lambda all_: all_["NetworkPolicy/nats"]["spec"].update(egress=[]),
        "nats -> another-nats is open on nothing",
    ),
}


@pytest.mark.parametrize("what", OPENED)
def test_a_way_that_is_opened_or_closed_is_found(production: Overlay, what: str) -> None:
    breaking, said = OPENED[what]
    faults = reachability.differences("it", reachability.reachable(production.broken(breaking)), expected())
    assert [fault for fault in faults if said in fault], faults


# Pitfalls


def scaled_twice(all_: Named) -> None:
    hpa = json.loads(json.dumps(all_["HorizontalPodAutoscaler/gateway"]))
    hpa["metadata"]["name"] = hpa["spec"]["scaleTargetRef"]["name"] = "canvas"
    all_["HorizontalPodAutoscaler/canvas"] = hpa


PITFALLS: dict[str, tuple[Breaking, str]] = {
    "two autoscalers": (scaled_twice, "both scale canvas"),
    "an autoscaler of nothing": (
        lambda all_: all_["ScaledObject/canvas"]["spec"]["scaleTargetRef"].update(name="canvass"),
        "which is not there",
    ),
    "a fixed count": (lambda all_: all_["Deployment/canvas"]["spec"].update(replicas=2), "has `replicas`"),
    "down to one": (
        lambda all_: all_["ScaledObject/canvas"]["spec"].update(minReplicaCount=1),
        "may leave one",
    ),
    "a missing series is a zero": (
        lambda all_: all_["ScaledObject/canvas"]["spec"]["triggers"][0]["metadata"].pop("ignoreNullValues"),
        "takes a series that is missing for a zero",
    ),
    "no fallback": (lambda all_: all_["ScaledObject/canvas"]["spec"].pop("fallback"), "`fallback`"),
    "a consumer that is not there": (
        lambda all_: all_["ScaledObject/canvas"]["spec"]["triggers"][0].update(type="nats-jetstream"),
        "no JetStream consumer",
    ),
    "half the tables at once": (
        lambda all_: all_["HorizontalPodAutoscaler/gateway"]["spec"]["behavior"]["scaleDown"].update(
            policies=[{"type": "Percent", "value": 50, "periodSeconds": 60}]
        ),
        "half the tables",
    ),
    "down too soon": (
        lambda all_: all_["HorizontalPodAutoscaler/gateway"]["spec"]["behavior"]["scaleDown"].pop(
            "stabilizationWindowSeconds"
        ),
        "before it is clear",
    ),
    "killed while draining": (
        lambda all_: all_["Deployment/gateway"]["spec"]["template"]["spec"].update(
            terminationGracePeriodSeconds=30
        ),
        "is killed 30 s after",
    ),
    "restarted while NATS is away": (
        lambda all_: container(all_["Deployment/canvas"])["livenessProbe"]["httpGet"].update(path="/readyz"),
        "what a restart does not mend",
    ),
    "all gateways shut by one service": (
        lambda all_: container(all_["Deployment/gateway"])["readinessProbe"]["httpGet"].update(
            path="/readyz"
        ),
        "all go at once",
    ),
    "no wait for proxies": (
        lambda all_: container(all_["Deployment/gateway"]).pop("lifecycle"),
        "drains at once",
    ),
    "all replaced at once": (
        lambda all_: all_["Deployment/gateway"]["spec"].pop("strategy"),
        "one by one",
    ),
    "no budget": (lambda all_: all_.pop("PodDisruptionBudget/nats"), "StatefulSet/nats needs one"),
    "a majority may go": (
        lambda all_: all_["PodDisruptionBudget/nats"]["spec"].update(maxUnavailable=2),
        "StatefulSet/nats needs one",
    ),
    "one zone for all": (
        lambda all_: all_["StatefulSet/nats"]["spec"]["template"]["spec"].pop("topologySpreadConstraints"),
        "is not spread over zones",
    ),
    "a token of the cluster": (
        lambda all_: all_["ServiceAccount/gateway"].update(automountServiceAccountToken=True),
        "gets a token",
    ),
    "no account": (
        lambda all_: all_["Deployment/gateway"]["spec"]["template"]["spec"].pop("serviceAccountName"),
        "no ServiceAccount",
    ),
    "lax pod security": (
        lambda all_: all_["Namespace/roundtable"]["metadata"].pop("labels"),
        "does not enforce",
    ),
    "an image of the day": (
        lambda all_: container(all_["StatefulSet/nats"]).update(image="nats:latest"),
        "that day",
    ),
}


def test_our_own_overlays_avoid_the_pitfalls(production: Overlay, staging: Overlay) -> None:
    assert pitfalls.faults_of(production.whole) == []
    assert pitfalls.faults_of(staging.whole) == []


@pytest.mark.parametrize("what", PITFALLS)
def test_a_pitfall_is_found(production: Overlay, what: str) -> None:
    breaking, said = PITFALLS[what]
    faults = pitfalls.faults_of(production.broken(breaking))
    assert [fault for fault in faults if said in fault], faults


# Settings, secrets, doors

KNOWN = settings.known_variables(ROOT)
PATHS = ["/sse", "/rpc", "/auth/token", "/rooms/{room}/canvas.json", "/metrics", "/healthz"]


def data_of(all_: Named, name: str) -> dict[str, str]:
    found: dict[str, str] = next(each for key, each in all_.items() if key.startswith(f"ConfigMap/{name}-"))[
        "data"
    ]
    return found


def plain_password(all_: Named) -> None:
    for variable in container(all_["Deployment/canvas"])["env"]:
        if variable["name"] == "ROUNDTABLE_NATS_PASSWORD":
            del variable["valueFrom"]
            variable["value"] = "hunter2"


UNSETTLED: dict[str, tuple[Breaking, str]] = {
    "a variable that nobody reads": (
        lambda all_: data_of(all_, "gateway").update(ROUNDTABLE_DRAIN_SECOND="30"),
        "which no program reads",
    ),
    "a secret among the files": (
        lambda all_: all_.update({"Secret/x": {"kind": "Secret", "metadata": {"name": "x"}}}),
        "secrets among the files",
    ),
    "a secret in a ConfigMap": (
        lambda all_: data_of(all_, "gateway").update(ROUNDTABLE_JWT_SECRET="x" * 40),
        "belongs into a Secret",
    ),
    "a secret in plain text": (plain_password, "in plain text"),
    "a secret that nobody makes": (
        lambda all_: container(all_["Deployment/gateway"])["env"][2]["valueFrom"]["secretKeyRef"].update(
            key="gate"
        ),
        "which nobody makes",
    ),
    "an ops path in public": (
        lambda all_: all_["HTTPRoute/gateway"]["spec"]["rules"][0]["matches"].append(
            {"path": {"type": "PathPrefix", "value": "/"}}
        ),
        "lets /metrics in",
    ),
    "a path that is shut": (
        lambda all_: all_["HTTPRoute/gateway"]["spec"]["rules"][0]["matches"].remove(
            {"path": {"type": "Exact", "value": "/sse"}}
        ),
        "does not let /sse in",
    ),
}


def test_our_own_settings_are_read(production: Overlay) -> None:
    assert settings.faults_of(production.target, production.whole, KNOWN, PATHS) == []


@pytest.mark.parametrize("what", UNSETTLED)
def test_a_setting_without_effect_a_secret_or_an_open_door_is_found(production: Overlay, what: str) -> None:
    breaking, said = UNSETTLED[what]
    faults = settings.faults_of(production.target, production.broken(breaking), KNOWN, PATHS)
    assert [fault for fault in faults if said in fault], faults
