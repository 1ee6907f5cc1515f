"""Shows the rollout: `python -m deploy.containers < rendered.yaml`. Reads manifests that kustomize has rendered.

Builds the images, starts three NATS servers and two of everything else, and plays `story`. Needs root, for podman.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from . import images
from .cluster import Cluster
from .manifests import Manifests, read
from .podman import Podman
from .story import ROLLED, Story, new_secrets

SEED: Final = 20
REPLICAS: Final = 2
WITHIN: Final = 15 * 60.0


def install() -> None:
    """What is missing of podman and its like, where that can be had by apt."""
    missing = Podman.missing()
    if not missing:
        return
    print(f"containers-test: installing {', '.join(missing)}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *missing]):
        full = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *command]
        subprocess.run(full, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=600)


async def show(found: Manifests, asked: argparse.Namespace) -> list[str]:
    podman, began = Podman(), time.monotonic()
    names = {name: found.workloads[name].container.image for name in images.SERVICES}
    await images.build(podman, names)
    await images.nats(podman, found.workloads["nats"].container.image)
    print(f"images are built: {time.monotonic() - began:.1f} s", flush=True)
    began = time.monotonic()
    async with Cluster(podman, found, REPLICAS, random.Random(asked.seed)) as cluster:
        try:
            await cluster.apply(new_secrets())
            counts = ", ".join(f"{len(pods)} {name}" for name, pods in cluster.pods.items())
            print(f"all is ready: {counts}: {time.monotonic() - began:.1f} s", flush=True)
            story = Story(cluster, asked.seed, asked.roll, not asked.no_kills)
            await story.play()
        finally:
            if asked.keep:
                await keep(cluster, asked.keep)
    return story.faults


async def keep(cluster: Cluster, folder: Path) -> None:
    """All pods' logs, for whoever wants to know why."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    living = {pod.name: await pod.log() for pods in cluster.pods.values() for pod in pods}
    for name, log in (cluster.logs | living).items():
        await asyncio.to_thread((folder / f"{name}.log").write_text, log)


def load() -> str:
    """Its figures say little of a machine that had much else to do."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


async def main(asked: argparse.Namespace) -> int:
    found = read(sys.stdin.read())
    print(f"containers-test: seed {asked.seed}, {load()}", flush=True)
    async with asyncio.timeout(WITHIN):
        faults = await show(found, asked)
    print(load())
    for fault in faults:
        print(f"  - {fault}")
    print(f"containers-test: {len(faults)} faults" if faults else "containers-test: every promise was kept")
    return 1 if faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--roll", nargs="*", default=ROLLED, help="workloads to roll out anew")
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder for the pods' logs")
    if os.geteuid():
        sys.exit("containers-test: needs root: pods have addresses and cgroups of their own")
    install()
    sys.exit(asyncio.run(main(parser.parse_args())))
