"""Adapter layer: podman, by its command line. Knows no Kubernetes and nothing of what runs in a container."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

CONFIG: Final = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""
"""For a machine without systemd: cgroups by files, and limits that a container may have."""
PACKAGES: Final = (
    "podman",
    "buildah",
    "runc",
    "netavark",
    "aardvark-dns",
    "iptables",
    "catatonit",
    "mmdebstrap",
    "busybox-static",
)
_NOISE: Final = ("systemd connection to add healthchecks", "systemd connection to start healthchecks")


class PodmanFailed(Exception):
    """The text is podman's own."""


class Podman:
    """Two commands at a time at most: each is a program that starts, and the machine has other work."""

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir()) / f"roundtable-containers-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        config = folder / "containers.conf"
        config.write_text(CONFIG)
        self.environment: Final = os.environ | {"CONTAINERS_CONF": str(config)}
        self._free = asyncio.Semaphore(2)

    @staticmethod
    def missing() -> list[str]:
        """Packages that this machine lacks."""
        programs = {"netavark": "/usr/lib/podman/netavark", "aardvark-dns": "/usr/lib/podman/aardvark-dns"}
        programs["busybox-static"] = "/bin/busybox"
        return [each for each in PACKAGES if shutil.which(programs.get(each, each)) is None]

    async def __call__(self, *arguments: str, within: float = 60.0, check: bool = True) -> str:
        """What podman printed. Raises `PodmanFailed`, or `TimeoutError` when it takes too long."""
        async with self._free:
            process = await asyncio.create_subprocess_exec(
                "podman",
                *arguments,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(within):
                    out, err = await process.communicate()
            except BaseException:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                raise
        if process.returncode and check:
            lines = [line for line in err.decode().splitlines() if not any(noise in line for noise in _NOISE)]
            raise PodmanFailed(f"podman {' '.join(arguments[:3])} …: {' '.join(lines)[-1500:]}")
        return out.decode()

    async def has_image(self, name: str, *filters: str) -> bool:
        """Whether there is one that fits all filters, such as `label=NAME=VALUE`."""
        wanted = [part for each in (f"reference={name}", *filters) for part in ("--filter", each)]
        return bool((await self("images", "--quiet", *wanted)).strip())

    async def inspect(self, container: str) -> Any:
        return json.loads(await self("inspect", "--type", "container", container))[0]

    async def logs(self, container: str) -> str:
        """Both of its streams, as one."""
        process = await asyncio.create_subprocess_exec(
            "podman", "logs", container,
            env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        return out.decode(errors="replace")

    async def remove(self, containers: Sequence[str], networks: Sequence[str]) -> None:
        """Whatever of them is there."""
        if containers:
            await self("rm", "--force", "--time", "0", "--ignore", *containers, check=False)
        for network in networks:
            await self("network", "rm", "--force", network, check=False)
