"""Pure layer: rendered manifests as the runner understands them. Knows no podman and no network.

Strict where a kubelet acts: a field of a pod that stands in no class below is refused, so that nothing is run differently
from what the manifest says without anybody knowing. What only a scheduler or a policy reads is named, and left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml
from msgspec import Struct, field


class NotUnderstood(Exception):
    """The manifests hold what the runner cannot do."""


class Strict(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, rename="camel"):
    """Every field that Kubernetes knows and the runner does not is an error."""


class Key(Strict, frozen=True):
    name: str
    key: str
    optional: bool = False


class FieldPath(Strict, frozen=True):
    field_path: str


class ValueFrom(Strict, frozen=True):
    secret_key_ref: Key | None = None
    config_map_key_ref: Key | None = None
    field_ref: FieldPath | None = None


class Variable(Strict, frozen=True):
    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class Named(Strict, frozen=True):
    name: str
    optional: bool = False


class Source(Strict, frozen=True):
    config_map_ref: Named | None = None
    secret_ref: Named | None = None


class Port(Strict, frozen=True):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class HttpGet(Strict, frozen=True):
    path: str
    port: str | int
    scheme: str = "HTTP"


class Probe(Strict, frozen=True):
    """Seconds, as a kubelet's defaults are."""

    http_get: HttpGet
    initial_delay_seconds: float = 0
    period_seconds: float = 10
    timeout_seconds: float = 1
    failure_threshold: int = 3
    success_threshold: int = 1


class Command(Strict, frozen=True):
    command: tuple[str, ...]


class Sleep(Strict, frozen=True):
    seconds: float


class Hook(Strict, frozen=True):
    exec: Command | None = None
    sleep: Sleep | None = None


class Lifecycle(Strict, frozen=True):
    pre_stop: Hook


class Resources(Strict, frozen=True):
    limits: dict[str, Any] = {}
    requests: dict[str, Any] = {}


class Mount(Strict, frozen=True):
    name: str
    mount_path: str
    read_only: bool = False


class Dropped(Strict, frozen=True):
    drop: tuple[str, ...] = ()


class ContainerSecurity(Strict, frozen=True):
    allow_privilege_escalation: bool = True
    read_only_root_filesystem: bool = False
    capabilities: Dropped = Dropped()


class Container(Strict, frozen=True):
    name: str
    image: str
    image_pull_policy: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[Variable, ...] = ()
    env_from: tuple[Source, ...] = ()
    ports: tuple[Port, ...] = ()
    startup_probe: Probe | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    resources: Resources = Resources()
    security_context: ContainerSecurity = ContainerSecurity()
    volume_mounts: tuple[Mount, ...] = ()

    def port(self, name: str | int) -> int:
        return name if isinstance(name, int) else next(p.container_port for p in self.ports if p.name == name)


class Item(Strict, frozen=True):
    key: str
    path: str


class ConfigVolume(Strict, frozen=True):
    name: str
    items: tuple[Item, ...] = ()
    default_mode: int = 0o644


class SecretVolume(Strict, frozen=True):
    secret_name: str
    items: tuple[Item, ...] = ()
    default_mode: int = 0o644


class EmptyDir(Strict, frozen=True):
    size_limit: str = ""
    medium: str = ""


class Volume(Strict, frozen=True):
    name: str
    config_map: ConfigVolume | None = None
    secret: SecretVolume | None = None
    empty_dir: EmptyDir | None = None


class PodSecurity(Strict, frozen=True):
    run_as_user: int
    run_as_group: int
    fs_group: int
    run_as_non_root: bool = False
    fs_group_change_policy: str = ""
    seccomp_profile: dict[str, str] = {}


class PodSpec(Strict, frozen=True):
    containers: tuple[Container]
    security_context: PodSecurity
    volumes: tuple[Volume, ...] = ()
    termination_grace_period_seconds: float = 30
    restart_policy: str = "Always"
    # Nobody is scheduled here, and there is no cluster to have a token for.
    affinity: Any = None
    topology_spread_constraints: Any = None
    priority_class_name: str = ""
    service_account_name: str = ""
    automount_service_account_token: bool = True
    enable_service_links: bool = True


class Labels(Struct, frozen=True):
    labels: dict[str, str] = {}


class Template(Strict, frozen=True):
    spec: PodSpec
    metadata: Labels = Labels()


class ClaimMeta(Struct, frozen=True):
    name: str


class Claim(Struct, frozen=True):
    metadata: ClaimMeta


class WorkloadSpec(Struct, frozen=True, rename="camel"):
    template: Template
    replicas: int | None = None
    min_ready_seconds: float = 0
    service_name: str = ""
    volume_claim_templates: tuple[Claim, ...] = ()
    backoff_limit: int = 6


class Meta(Struct, frozen=True):
    name: str
    namespace: str = ""


class Workload(Struct, frozen=True):
    kind: str
    metadata: Meta
    spec: WorkloadSpec

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def pod(self) -> PodSpec:
        return self.spec.template.spec

    @property
    def container(self) -> Container:
        return self.pod.containers[0]


class ServiceSpec(Struct, frozen=True, rename="camel"):
    selector: dict[str, str]


class Service(Struct, frozen=True):
    metadata: Meta
    spec: ServiceSpec

    def selects(self, workload: Workload) -> bool:
        return self.spec.selector.items() <= workload.spec.template.metadata.labels.items()


class Data(Struct, frozen=True):
    metadata: Meta
    data: dict[str, str] = {}


class CertificateSpec(Struct, frozen=True, rename="camel"):
    secret_name: str
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    is_ca: bool = field(default=False, name="isCA")


class Certificate(Struct, frozen=True):
    metadata: Meta
    spec: CertificateSpec


WORKLOADS: Final = ("Deployment", "StatefulSet", "Job")
OTHERS: Final = frozenset(
    {
        "Namespace", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount",  # for a cluster's own parts
        "HorizontalPodAutoscaler", "ScaledObject", "TriggerAuthentication",  # the runner is told how many
        "HTTPRoute", "Gateway", "Ingress", "Issuer", "PodMonitor", "PrometheusRule", "ExternalSecret", "SecretStore",
    }
)  # fmt: skip
"""Kinds that no kubelet acts on."""


class Manifests(Struct):
    namespace: str
    workloads: dict[str, Workload] = {}
    services: list[Service] = []
    config_maps: dict[str, dict[str, str]] = {}
    secrets: dict[str, dict[str, str]] = {}
    """Made by the runner; one that stands in the manifests is taken from there."""
    certificates: list[Certificate] = []


def read(rendered: str) -> Manifests:
    """Raises `NotUnderstood`, with the object and the place in it."""
    found: Manifests | None = None
    for document in yaml.safe_load_all(rendered):
        kind, name = document["kind"], document["metadata"]["name"]
        if found is None:
            found = Manifests(document["metadata"].get("namespace", name))
        try:
            _take(found, kind, document)
        except msgspec.ValidationError as error:
            raise NotUnderstood(f"{kind} {name}: {error}") from None
    if found is None:
        raise NotUnderstood("there are no manifests")
    return found


def _take(into: Manifests, kind: str, document: Any) -> None:
    if kind in WORKLOADS:
        workload = msgspec.convert(document, Workload)
        into.workloads[workload.name] = workload
        into.namespace = workload.metadata.namespace
    elif kind == "Service":
        into.services.append(msgspec.convert(document, Service))
    elif kind == "ConfigMap":
        data = msgspec.convert(document, Data)
        into.config_maps[data.metadata.name] = data.data
    elif kind == "Certificate":
        into.certificates.append(msgspec.convert(document, Certificate))
    elif kind not in OTHERS:
        raise NotUnderstood(f"kind {kind}")


def names_in(manifests: Manifests, workload: Workload, pod: str) -> Iterator[str]:
    """All names under which others find that pod: its own, its Services', and a StatefulSet's for each ordinal."""
    domain = f"{manifests.namespace}.svc.cluster.local"
    yield pod
    for service in manifests.services:
        if service.selects(workload):
            yield service.metadata.name
            yield f"{service.metadata.name}.{domain}"
            if workload.spec.service_name == service.metadata.name:
                yield f"{pod}.{service.metadata.name}"
                yield f"{pod}.{service.metadata.name}.{domain}"


def values(manifests: Manifests, workload: Workload, pod: str) -> dict[str, str]:
    """The environment of the pod's container. Raises `NotUnderstood` where something is missing."""
    found: dict[str, str] = {}
    for source in workload.container.env_from:
        for kind, named in (
            (manifests.config_maps, source.config_map_ref),
            (manifests.secrets, source.secret_ref),
        ):
            if named is not None:
                found |= _object(kind, named.name, named.optional)
    for variable in workload.container.env:
        value = variable.value
        if (given := variable.value_from) is not None:
            value = _value(manifests, given, pod)
        found[variable.name] = re.sub(r"\$\((\w+)\)", lambda m: found.get(m[1], m[0]), value)
    return found


def _value(manifests: Manifests, given: ValueFrom, pod: str) -> str:
    if given.field_ref is not None:
        if given.field_ref.field_path != "metadata.name":
            raise NotUnderstood(f"fieldPath {given.field_ref.field_path}")
        return pod
    if (key := given.secret_key_ref) is not None:
        objects = manifests.secrets
    elif (key := given.config_map_key_ref) is not None:
        objects = manifests.config_maps
    else:
        raise NotUnderstood("a variable without a value")
    entry = _object(objects, key.name, key.optional)
    if key.key not in entry and not key.optional:
        raise NotUnderstood(f"{key.name} has no {key.key}")
    return entry.get(key.key, "")


def _object(objects: dict[str, dict[str, str]], name: str, optional: bool) -> dict[str, str]:
    if name not in objects and not optional:
        raise NotUnderstood(f"there is no {name}")
    return objects.get(name, {})


def files(manifests: Manifests, volume: Volume) -> tuple[dict[str, str], int] | None:
    """A volume's files and their mode; None for one that is empty at first."""
    if volume.empty_dir is not None:
        return None
    if volume.config_map is not None:
        data, given = _object(manifests.config_maps, volume.config_map.name, False), volume.config_map
    elif volume.secret is not None:
        data = _object(manifests.secrets, volume.secret.secret_name, False)
        return _picked(data, volume.secret.items), volume.secret.default_mode
    else:
        raise NotUnderstood(f"volume {volume.name}")
    return _picked(data, given.items), given.default_mode


def _picked(data: dict[str, str], items: tuple[Item, ...]) -> dict[str, str]:
    return {item.path: data[item.key] for item in items} if items else data


def memory(text: str) -> str:
    """`1Gi` as podman has it: `1g`."""
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi)?", text)
    if match is None:
        raise NotUnderstood(f"memory {text}")
    return match[1] + (match[2] or "b")[0].lower()
