"""What the runner of `make containers-test` reads from manifests: all that a kubelet acts on, and nothing else passes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from deploy.containers import manifests as k8s


def pod(**container: Any) -> dict[str, Any]:
    return {
        "securityContext": {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001},
        "containers": [{"name": "nats", "image": "nats:1", **container}],
        "volumes": [
            {"name": "tls", "secret": {"secretName": "tls", "items": [{"key": "ca", "path": "ca.crt"}]}},
            {"name": "conf", "configMap": {"name": "conf", "defaultMode": 0o440}},
            {"name": "run", "emptyDir": {"sizeLimit": "1Mi"}},
        ],
    }


def objects(spec: dict[str, Any], *more: dict[str, Any]) -> str:
    labels = {"app": "nats"}
    workload = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "nats", "namespace": "house"},
        "spec": {
            "replicas": 3,
            "serviceName": "nats-headless",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    services = [
        {"kind": "Service", "metadata": {"name": name}, "spec": {"selector": selector}}
        for name, selector in (("nats-headless", labels), ("nats", labels), ("other", {"app": "other"}))
    ]
    conf = {"kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"COLOUR": "red", "SIZE": "4"}}
    return yaml.safe_dump_all([workload, *services, conf, *more])


def test_a_stateful_pod_has_its_ordinals_name_and_those_of_its_services() -> None:
    found = k8s.read(objects(pod()))
    names = set(k8s.names_in(found, found.workloads["nats"], "nats-1"))
    assert {"nats-1", "nats", "nats-headless", "nats-1.nats-headless"} < names
    assert "nats-1.nats-headless.house.svc.cluster.local" in names
    assert not any("other" in name for name in names)


def test_the_environment_comes_from_maps_secrets_and_the_pod_itself() -> None:
    spec = pod(
        envFrom=[{"configMapRef": {"name": "conf"}}],
        env=[
            {"name": "SIZE", "value": "5"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "words", "key": "nats"}}},
            {"name": "SPARE", "valueFrom": {"secretKeyRef": {"name": "no", "key": "x", "optional": True}}},
            {"name": "BOTH", "value": "$(POD):$(SIZE):$(NOBODY)"},
        ],
    )
    found = k8s.read(objects(spec))
    found.secrets["words"] = {"nats": "p1"}
    assert k8s.values(found, found.workloads["nats"], "nats-2") == {
        "COLOUR": "red",
        "SIZE": "5",
        "POD": "nats-2",
        "PASSWORD": "p1",
        "SPARE": "",
        "BOTH": "nats-2:5:$(NOBODY)",
    }


@pytest.mark.parametrize("words", [{}, {"words": {}}, {"words": {"other": "x"}}])
def test_a_secret_that_is_not_there_is_an_error(words: dict[str, dict[str, str]]) -> None:
    spec = pod(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "words", "key": "nats"}}}])
    found = k8s.read(objects(spec))
    found.secrets = words
    with pytest.raises(k8s.NotUnderstood, match="words"):
        k8s.values(found, found.workloads["nats"], "nats-0")


def test_volumes_hold_what_their_items_pick_in_their_mode() -> None:
    found = k8s.read(objects(pod()))
    found.secrets["tls"] = {"ca": "A", "key": "B"}
    volumes = found.workloads["nats"].pod.volumes
    assert [k8s.files(found, volume) for volume in volumes] == [
        ({"ca.crt": "A"}, 0o644),
        ({"COLOUR": "red", "SIZE": "4"}, 0o440),
        None,
    ]


@pytest.mark.parametrize(
    "container",
    [
        {"securityContext": {"privileged": True}},
        {"lifecycle": {"postStart": {"exec": {"command": ["true"]}}}},
        {"livenessProbe": {"tcpSocket": {"port": 4222}}},
        {"volumeMounts": [{"name": "run", "mountPath": "/run", "subPath": "x"}]},
        {"workingDir": "/"},
    ],
)
def test_what_the_runner_cannot_do_is_refused_by_name(container: dict[str, Any]) -> None:
    with pytest.raises(k8s.NotUnderstood, match=r"StatefulSet nats: .*spec"):
        k8s.read(objects(pod(**container)))


def test_a_kind_that_nobody_knows_is_refused() -> None:
    with pytest.raises(k8s.NotUnderstood, match="DaemonSet"):
        k8s.read(objects(pod(), {"kind": "DaemonSet", "metadata": {"name": "x"}}))


@pytest.mark.parametrize(("given", "podman"), [("1Gi", "1g"), ("256Mi", "256m"), ("1000", "1000b")])
def test_memory_is_said_as_podman_says_it(given: str, podman: str) -> None:
    assert k8s.memory(given) == podman


def test_memory_in_other_units_is_refused() -> None:
    with pytest.raises(k8s.NotUnderstood):
        k8s.memory("1e3")
