"""Shell layer: all workloads of the manifests at once, and their rollouts, as controllers do them. Knows no clients of them."""

from __future__ import annotations

import asyncio
import random
import shutil
import string
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, overload

from roundtable.common.testing.tls import Authority

from . import manifests as k8s
from .podman import Podman
from .pods import Pod

READY_WITHIN: Final = 120.0


class Place:
    """Where a client finds one gateway."""

    def __init__(self, name: str, address: str, port: int) -> None:
        self.name = name
        self.http = f"http://{address}:{port}"
        self.ws = f"ws://{address}:{port}"


class Endpoints(Sequence[Place]):
    """The pods of a workload that are ready, as a Service has them: new connections go to these and no others."""

    def __init__(self, cluster: Cluster, workload: str) -> None:
        self._cluster = cluster
        self._workload = workload

    def _now(self) -> list[Place]:
        pods = self._cluster.pods[self._workload]
        port = self._cluster.manifests.workloads[self._workload].container.ports[0].container_port
        return [Place(pod.name, pod.address, port) for pod in pods if pod.ready]

    def __len__(self) -> int:
        return len(self._now())

    @overload
    def __getitem__(self, index: int) -> Place: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Place]: ...
    def __getitem__(self, index: int | slice) -> Place | Sequence[Place]:
        return self._now()[index]

    def __iter__(self) -> Iterator[Place]:
        return iter(self._now())


class Cluster:
    """Use as an asynchronous context manager: what it starts is gone afterwards.

    `replicas`: of each workload where the manifests leave that to an autoscaler.
    """

    def __init__(self, podman: Podman, found: k8s.Manifests, replicas: int, chance: random.Random) -> None:
        self.manifests: Final = found
        self.pods: Final[dict[str, list[Pod]]] = {name: [] for name in found.workloads}
        self.notes: Final[list[str]] = []
        """What befell pods that nobody wanted to befall them."""
        self.logs: Final[dict[str, str]] = {}
        """Of the pods that are gone."""
        self.authority: Final = Authority("Roundtable containers-test")
        self._podman = podman
        self._replicas = replicas
        self._chance = chance
        self._network = "roundtable-" + self._letters(6)
        self._home = Path(tempfile.mkdtemp(prefix=f"{self._network}-"))
        self._home.chmod(0o755)
        self._ends: set[asyncio.Task[float]] = set()
        self._all: list[Pod] = []

    async def __aenter__(self) -> Cluster:
        try:
            await self._podman("network", "create", self._network)
            self._certify()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(pod.abandon() for pod in self._all))
        await self._podman.remove([pod.container for pod in self._all], [self._network])
        shutil.rmtree(self._home, ignore_errors=True)

    def _certify(self) -> None:
        """What cert-manager would make of the manifests' Certificates."""
        for certificate in self.manifests.certificates:
            if not certificate.spec.is_ca:
                names = (*certificate.spec.dns_names, *certificate.spec.ip_addresses)
                pair = self.authority.sign(names)
                self.manifests.secrets[certificate.spec.secret_name] = {
                    "tls.crt": pair.certificate.decode(),
                    "tls.key": pair.key.decode(),
                    "ca.crt": self.authority.certificate.decode(),
                }

    # -- all at once

    async def apply(self, secrets: Mapping[str, dict[str, str]]) -> None:
        """Starts everything at once, as an apply does, and returns when all is ready and every job done."""
        self.manifests.secrets.update(secrets)
        await asyncio.gather(*(self._begin(workload) for workload in self.manifests.workloads.values()))
        for name, pods in self.pods.items():
            job = self.manifests.workloads[name].kind == "Job"
            for pod in pods:
                await (pod.until_done(READY_WITHIN) if job else pod.until_ready(READY_WITHIN))
        for name in [name for name, workload in self.manifests.workloads.items() if workload.kind == "Job"]:
            for pod in self.pods.pop(name):
                await pod.abandon()
        self.notes.clear()  # until now, some waited for others

    async def _begin(self, workload: k8s.Workload) -> None:
        count = 1 if workload.kind == "Job" else workload.spec.replicas or self._replicas
        await asyncio.gather(*(self._add(workload, number) for number in range(count)))

    async def _add(self, workload: k8s.Workload, ordinal: int) -> Pod:
        stateful = workload.kind == "StatefulSet"
        name = f"{workload.name}-{ordinal if stateful else self._letters(5)}"
        pod = Pod(self._podman, self.manifests, workload, name, self._network, self._home, self.notes.append)
        self._all.append(pod)
        await pod.start()
        self.pods[workload.name].append(pod)
        self.pods[workload.name].sort(key=lambda each: each.name if stateful else "")
        return pod

    # -- rollouts

    async def replace(self, old: Pod) -> float:
        """One step of a rollout, to its end: the new pod is available and the old one gone. Returns how long the old one took.

        A Deployment starts the new one first (maxSurge 1, maxUnavailable 0), a StatefulSet ends the old one first.
        """
        workload, pods = old.workload, self.pods[old.workload.name]
        if workload.kind == "StatefulSet":
            ordinal = int(old.name.rpartition("-")[2])
            seconds = await self._end(old)
            new = await self._add(workload, ordinal)
            await self._available(new)
            return seconds
        new = await self._add(workload, len(pods))
        await self._available(new)
        return await self._end(old)

    async def _available(self, pod: Pod) -> None:
        """Ready, and for as long as the manifest wants it to have been."""
        await pod.until_ready(READY_WITHIN)
        since = time.monotonic()
        while time.monotonic() - since < pod.workload.spec.min_ready_seconds:
            await asyncio.sleep(0.1)
            if not pod.ready:
                await pod.until_ready(READY_WITHIN)
                since = time.monotonic()

    async def _end(self, pod: Pod) -> float:
        self.pods[pod.workload.name].remove(pod)
        seconds = await pod.stop()
        self.logs[pod.name] = await pod.log()
        await self._podman.remove([pod.container], [])
        self._all.remove(pod)
        return seconds

    def _letters(self, count: int) -> str:
        return "".join(self._chance.choices(string.ascii_lowercase + string.digits, k=count))
